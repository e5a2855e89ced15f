package csc

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"
	"time"

	"sealgate/internal/audit"
	"sealgate/internal/front"
	"sealgate/internal/i18n"
	"sealgate/internal/issuing"
)

// infoAnswer tells what is offered (CSC API 2.0.0.2 §11.1).
type infoAnswer struct {
	Specs        string   `json:"specs"`
	Name         string   `json:"name"`
	Logo         string   `json:"logo"`
	Region       string   `json:"region"`
	Lang         string   `json:"lang"`
	Description  string   `json:"description"`
	AuthType     []string `json:"authType"`
	OAuth2       string   `json:"oauth2"`
	Asynchronous bool     `json:"asynchronousOperationMode"`
	Methods      []string `json:"methods"`
	Algorithms   struct {
		Algos []string `json:"algos"`
	} `json:"signAlgorithms"`
	Formats struct {
		Formats    []string   `json:"formats"`
		Properties [][]string `json:"envelope_properties"`
	} `json:"signature_formats"`
	Levels []string `json:"conformance_levels"`
}

func (d *Door) info(w http.ResponseWriter, r *http.Request) {
	in, err := readInput(r, false)
	var asked string
	if err == nil {
		asked, err = in.text("lang")
	}
	if err != nil {
		d.fail(w, r, audit.New(audit.ClientRefused), err)
		return
	}
	lang := language(asked)
	a := infoAnswer{Specs: "2.0.0.2", Name: d.cfg.Name(string(lang)), Logo: d.cfg.PublicOrigin + d.cfg.Logo, Region: "TW",
		Lang: string(lang), Description: d.cfg.Description(string(lang)), AuthType: []string{"oauth2code"},
		OAuth2: d.cfg.PublicOrigin + Path + "/", Levels: []string{},
		Methods: []string{"info", "credentials/list", "credentials/info", "signatures/signHash", "signatures/timestamp",
			"oauth2/authorize", "oauth2/token", "oauth2/revoke"}}
	a.Algorithms.Algos = append(algorithmsOf(false), algorithmsOf(true)...)
	// Signature formats are those of signatures/signDoc, which is not offered.
	a.Formats.Formats, a.Formats.Properties = []string{}, [][]string{}
	front.WriteJSON(w, http.StatusOK, a)
}

// language is the one that we answer in.
func language(asked string) i18n.Lang {
	if lang, ok := i18n.Match(asked); ok {
		return lang
	}
	return i18n.ZhHant
}

// credentialInfo describes a credential (§11.4).
type credentialInfo struct {
	CredentialID string    `json:"credentialID,omitempty"`
	Description  string    `json:"description,omitempty"`
	Key          keyInfo   `json:"key"`
	Cert         *certInfo `json:"cert,omitempty"`
	Auth         struct {
		Mode string `json:"mode"`
	} `json:"auth"`
	SCAL      string `json:"SCAL"`
	Multisign int    `json:"multisign"`
	Lang      string `json:"lang"`
}

type keyInfo struct {
	Status string   `json:"status"`
	Algo   []string `json:"algo"`
	Len    int      `json:"len"`
	Curve  string   `json:"curve,omitempty"`
}

type certInfo struct {
	Status       string   `json:"status,omitempty"`
	Certificates []string `json:"certificates,omitempty"`
	IssuerDN     string   `json:"issuerDN,omitempty"`
	SerialNumber string   `json:"serialNumber,omitempty"`
	SubjectDN    string   `json:"subjectDN,omitempty"`
	ValidFrom    string   `json:"validFrom,omitempty"`
	ValidTo      string   `json:"validTo,omitempty"`
}

// usable says whether the key may sign at a time.
func (c Credential) usable(at time.Time) bool {
	return c.Active && !c.Superseded && c.status(at) == "valid"
}

// status is the certificate's, in the words of the API.
func (c Credential) status(at time.Time) string {
	switch {
	case c.State == issuing.Revoked:
		return "revoked"
	case at.After(c.NotAfter):
		return "expired"
	case c.State == issuing.Held, at.Before(c.NotBefore):
		return "suspended"
	}
	return "valid"
}

// view is what a caller wants to see of credentials.
type view struct {
	certificates string // none, single, chain
	certInfo     bool
	lang         i18n.Lang
}

func readView(in input) (view, error) {
	var v view
	var err, err2, err3 error
	v.certificates, err = in.text("certificates")
	v.certInfo, err2 = in.flag("certInfo")
	lang, err3 := in.text("lang")
	_, err4 := in.flag("authInfo") // always told: there is one mode
	if err := errors.Join(err, err2, err3, err4); err != nil {
		var e *refusal
		errors.As(err, &e)
		return v, e
	}
	v.lang = language(lang)
	switch v.certificates {
	case "":
		v.certificates = "single"
	case "none", "single", "chain":
	default:
		return v, wrong("certificates")
	}
	return v, nil
}

// listAnswer is the answer of credentials/list.
type listAnswer struct {
	CredentialIDs   []string         `json:"credentialIDs"`
	CredentialInfos []credentialInfo `json:"credentialInfos,omitempty"`
	OnlyValid       *bool            `json:"onlyValid,omitempty"`
}

// list tells the certificates of the citizen who authorized the client.
func (d *Door) list(r *http.Request, c caller, in input) (any, error) {
	if c.token.Scope != ScopeService {
		return nil, errTokenScope
	}
	if in.has("userID") {
		return nil, invalid("user_id", "userID parameter MUST be null")
	}
	v, err := readView(in)
	if err != nil {
		return nil, err
	}
	withInfo, err := in.flag("credentialInfo")
	if err != nil {
		return nil, err
	}
	onlyValid, err := in.flag("onlyValid")
	if err != nil {
		return nil, err
	}
	all, err := d.cfg.Store.Credentials(r.Context(), c.token.Citizen)
	if err != nil {
		return nil, err
	}
	a := listAnswer{CredentialIDs: []string{}}
	if onlyValid {
		a.OnlyValid = &onlyValid
	}
	for _, credential := range all {
		if onlyValid && !credential.usable(now()) {
			continue
		}
		id := d.credentialID(c.client, credential.ID)
		a.CredentialIDs = append(a.CredentialIDs, id)
		if !withInfo {
			continue
		}
		one, err := d.describe(r.Context(), credential, v)
		if err != nil {
			return nil, err
		}
		one.CredentialID = id
		a.CredentialInfos = append(a.CredentialInfos, one)
	}
	return a, nil
}

// credential describes one of them.
func (d *Door) credential(r *http.Request, c caller, in input) (any, error) {
	it, err := d.own(r.Context(), c, in)
	if err != nil {
		return nil, err
	}
	v, err := readView(in)
	if err != nil {
		return nil, err
	}
	return d.describe(r.Context(), *it, v)
}

// own reads the credential that a request names, where it is the caller's
// citizen's; with a token of scope credential, that token's.
func (d *Door) own(ctx context.Context, c caller, in input) (*Credential, error) {
	id, err := d.id(in, c.client)
	if err != nil {
		return nil, err
	}
	it, err := d.cfg.Store.Credential(ctx, id)
	if errors.Is(err, ErrCredentialUnknown) {
		return nil, errCredential
	}
	if err != nil {
		return nil, err
	}
	if it.Citizen != c.token.Citizen || (c.token.Scope == ScopeCredential && it.ID != c.token.Certificate) {
		return nil, errCredential
	}
	return it, nil
}

func (d *Door) describe(ctx context.Context, c Credential, v view) (credentialInfo, error) {
	cert, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return credentialInfo{}, err
	}
	at := now()
	out := credentialInfo{Description: c.DeviceName, SCAL: "2", Multisign: d.cfg.Most, Lang: string(v.lang)}
	out.Auth.Mode = "oauth2code"
	out.Key.Status = "disabled"
	var known bool
	out.Key.Algo, out.Key.Len, out.Key.Curve, known = keyOf(cert.PublicKey)
	if known && c.usable(at) {
		out.Key.Status = "enabled"
	}
	out.Cert = &certInfo{Status: c.status(at)}
	if v.certificates != "none" {
		out.Cert.Certificates = []string{encodeStandard(cert.Raw)}
	}
	if v.certificates == "chain" {
		above, err := d.above(ctx, cert, c.Authority)
		if err != nil {
			return out, err
		}
		out.Cert.Certificates = append(out.Cert.Certificates, above...)
	}
	if v.certInfo {
		const generalized = "20060102150405Z"
		out.Cert.IssuerDN, out.Cert.SubjectDN = cert.Issuer.String(), cert.Subject.String()
		out.Cert.SerialNumber = strings.ToUpper(hex.EncodeToString(cert.SerialNumber.Bytes()))
		out.Cert.ValidFrom, out.Cert.ValidTo = cert.NotBefore.UTC().Format(generalized), cert.NotAfter.UTC().Format(generalized)
	}
	return out, nil
}

// above gives the certificates over a citizen's, the nearest first.
func (d *Door) above(ctx context.Context, cert *x509.Certificate, authority string) ([]string, error) {
	all, err := d.cfg.Chain(ctx, authority)
	if err != nil {
		return nil, err
	}
	var out []string
	for range all {
		next := issuerOf(cert, all)
		if next == nil || next == cert {
			break
		}
		out = append(out, encodeStandard(next.Raw))
		cert = next
	}
	return out, nil
}

func issuerOf(cert *x509.Certificate, all []*x509.Certificate) *x509.Certificate {
	for _, c := range all {
		if cert.CheckSignatureFrom(c) == nil {
			return c
		}
	}
	return nil
}
