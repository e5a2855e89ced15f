package pages

import (
	"encoding/json"
	"time"

	"sealgate/internal/i18n"
	"sealgate/internal/sigverify"
)

// verifying are the states of the page where signatures are judged.
func (s *States) verifying() {
	rows := json.RawMessage(`[{"name":"核定公文.pdf.p7s","size":3412,"kind":"cms"},{"name":"核定公文.pdf","size":1073741824,"kind":"content"}]`)
	xml := json.RawMessage(`[{"name":"1151100123.si","size":48213,"kind":"xml"},{"name":"附件一.pdf","size":812000,"kind":"content"}]`)
	s.add("verify", "none", sample{page: "pages/verify", data: VerifyData{}})
	s.add("verify", "files", sample{page: "pages/verify", data: VerifyData{Samples: rows}})
	s.add("verify", "si", sample{page: "pages/verify", data: VerifyData{Samples: xml}})
	for name, report := range map[string]*sigverify.Report{
		"valid":    sampleReport(sampleSignature("")),
		"content":  sampleReport(sampleSignature(sigverify.HashFailure)),
		"value":    sampleReport(sampleSignature(sigverify.SigCryptoFailure)),
		"revoked":  sampleReport(sampleSignature(sigverify.Revoked)),
		"unknown":  sampleReport(sampleSignature(sigverify.TryLater)),
		"stranger": sampleReport(sampleSignature(sigverify.NoCertificateChainFound)),
		"several":  sampleReport(sampleSignature(""), sampleSignature(sigverify.RevokedNoPOE)),
		"no-signature": {Type: sigverify.Type, Indication: sigverify.Indeterminate, SubIndication: sigverify.NoSignature, ValidationTime: sampleTime,
			Signatures: []sigverify.Signature{}, Checks: []sigverify.Check{{Name: sigverify.CheckFormat, Outcome: sigverify.Unknown, Reason: "only certificates"}}},
	} {
		answers := map[string]any{}
		for _, lang := range i18n.Langs() {
			answers[string(lang)] = map[string]any{"outlook": report.Outlook(), "simple": report.Simple(s.shell.Catalogue(), lang), "report": report}
		}
		s.add("verify", name, sample{page: "pages/verify", data: VerifyData{Samples: rows, Sample: answers}})
	}
}

var sampleTime = time.Date(2026, 11, 23, 6, 2, 0, 0, time.UTC)

func sampleReport(all ...sigverify.Signature) *sigverify.Report {
	r := &sigverify.Report{Type: sigverify.Type, Indication: sigverify.TotalPassed, ValidationTime: sampleTime, Signatures: all,
		Input:  sigverify.Input{Format: "cms", Bytes: 3412, Content: "digests"},
		Checks: []sigverify.Check{{Name: sigverify.CheckFormat, Outcome: sigverify.Passed, Reason: "CMS SignedData"}}}
	for i, s := range all {
		all[i].Index = i
		if s.Indication != sigverify.TotalPassed {
			r.Indication, r.SubIndication = s.Indication, s.SubIndication
		}
	}
	return r
}

func sampleSignature(sub sigverify.SubIndication) sigverify.Signature {
	day := func(years int) time.Time { return sampleTime.AddDate(years, 0, 0) }
	s := sigverify.Signature{SubIndication: sub, Level: "LT", ClaimedTime: day(0).Add(-time.Hour), ProvenTime: day(0).Add(-50 * time.Minute),
		Scope:      sigverify.Scope{Kind: sigverify.ScopeDetached, Whole: true},
		Signer:     &sigverify.Identity{Name: "測試一號", IDLast4: "6789", Kind: "citizen", Issuer: "CN=(測試用) Sealgate Issuing CA", Serial: "5f01"},
		Algorithms: sigverify.Algorithms{Digest: "SHA-256", Signature: "ecdsa", Key: "P-256"},
		Proofs:     []sigverify.Proof{{Time: day(0).Add(-50 * time.Minute), Source: sigverify.ProofSignatureTimestamp}},
		Chain: []sigverify.Certificate{{Subject: "SERIALNUMBER=9900000000000001,CN=測試一號,C=TW", Serial: "5f0100c2", NotBefore: day(-1), NotAfter: day(1)},
			{Subject: "CN=(測試用) Sealgate Root CA,O=(測試用) Sealgate,C=TW", Serial: "4d1cd4a3", NotBefore: day(-2), NotAfter: day(18), Anchor: true}},
		Revocation: []sigverify.Revocation{{Source: "ocsp", From: sigverify.FromSignature, Status: "good", ThisUpdate: day(0)}},
		Timestamps: []sigverify.Timestamp{{Kind: sigverify.ProofSignatureTimestamp, Indication: sigverify.TotalPassed, Time: day(0), Authority: "CN=(測試用) TSA"}},
		Checks: []sigverify.Check{{Name: sigverify.CheckContent, Outcome: sigverify.Passed}, {Name: sigverify.CheckSignature, Outcome: sigverify.Passed},
			{Name: sigverify.CheckChain, Outcome: sigverify.Passed}, {Name: sigverify.CheckRevocation, Outcome: sigverify.Passed}}}
	s.Indication = sigverify.TotalPassed
	switch sub {
	case "":
		return s
	case sigverify.HashFailure, sigverify.SigCryptoFailure, sigverify.Revoked:
		s.Indication = sigverify.TotalFailed
	default:
		s.Indication = sigverify.Indeterminate
	}
	s.Checks = append(s.Checks, sigverify.Check{Name: sigverify.CheckValidity, Outcome: sigverify.Unknown, SubIndication: sub, Reason: "an example"})
	return s
}
