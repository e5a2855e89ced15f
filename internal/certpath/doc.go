// Package certpath decides whether a certificate may be relied on at a time.
//
// It builds and checks the path to a configured trust anchor (RFC 5280 §6.1,
// policies by RFC 9618), asks for the revocation status (OCSP, RFC 6960; else a
// CRL, RFC 5280 §6.3) and keeps what it was told, because the answer is evidence:
// ValidateWith judges by such evidence alone, years later. crypto/x509 reads
// certificates and verifies signatures; the rules are here, because it has no
// directory names in name constraints, no self-issued certificates and no
// initial policy settings. RULES.md has the tests of each rule, NIST's suite
// among them.
//
// It fails closed: no fresh, authentic and matching answer means "status
// unknown", never "good", unless an operator has allowed that for a purpose and a
// time, which is recorded at each use.
//
// The package does not dial. A Fetcher, in production the methods of
// egress.Client, brings the bytes. Long lists are parsed once, shared by nodes
// through a ListStore, and renewed ahead of time by one node's Refresh.
//
//	store, err := certpath.NewTrustStore(anchors, intermediates)
//	checker, err := certpath.NewChecker(certpath.CheckerConfig{Fetch: fetcher, Store: lists})
//	v := certpath.Validator{Store: store, Checker: checker}
//	result, err := v.Validate(ctx, leaf, extra, at, certpath.CitizenProfile())
//	later, err := v.ValidateWith(ctx, leaf, extra, at, certpath.CitizenProfile(), stored)
//	info, err := certpath.ParseCitizen(leaf)
package certpath
