// Package certpath decides whether a certificate may be relied on at a time.
//
// It builds and checks the path to a configured trust anchor (RFC 5280 §6,
// through crypto/x509 with further rules on top), asks for the revocation status
// (OCSP, RFC 6960; else a CRL, RFC 5280 §6.3) and keeps what it was told, because
// the answer is evidence. It fails closed: no fresh, authentic and matching
// answer means "status unknown", never "good".
//
// The package does not dial. A Fetcher, in production the methods of
// egress.Client, brings the bytes.
//
//	store, err := certpath.NewTrustStore(anchors, intermediates)
//	checker, err := certpath.NewChecker(certpath.CheckerConfig{Fetch: fetcher})
//	v := certpath.Validator{Store: store, Checker: checker}
//	result, err := v.Validate(ctx, leaf, extra, at, certpath.CitizenProfile())
//	info, err := certpath.ParseCitizen(leaf)
package certpath
