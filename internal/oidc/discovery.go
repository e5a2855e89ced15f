package oidc

import (
	"encoding/json"
	"net/http"

	"github.com/go-jose/go-jose/v4"
	zoidc "github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/text/language"

	"sealgate/internal/order"
)

// metadata is the discovery document: the library's type and what it lacks.
type metadata struct {
	zoidc.DiscoveryConfiguration
	// RFC 9207 §3
	ResponseIss bool `json:"authorization_response_iss_parameter_supported"`
	// OpenID Connect Discovery 1.0 §3: these default to true when absent or are
	// dropped by the library when false.
	RequestParameter bool `json:"request_parameter_supported"`
	ClaimsParameter  bool `json:"claims_parameter_supported"`
}

// assertionAlgorithms are accepted for private_key_jwt.
var assertionAlgorithms = []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.PS256, jose.RS256}

// discoveryDocument says what is really supported; the library's own document
// would claim implicit flow, public subjects and RS256.
func (p *Provider) discoveryDocument() ([]byte, error) {
	at := func(path string) string { return p.cfg.Issuer + path }
	methods := []zoidc.AuthMethod{zoidc.AuthMethodBasic, zoidc.AuthMethodPost, zoidc.AuthMethodPrivateKeyJWT, zoidc.AuthMethodNone}
	confidential := methods[:3]
	var algorithms []string
	for _, a := range assertionAlgorithms {
		algorithms = append(algorithms, string(a))
	}
	return json.Marshal(metadata{
		ResponseIss: true,
		DiscoveryConfiguration: zoidc.DiscoveryConfiguration{
			Issuer:                           p.cfg.Issuer,
			AuthorizationEndpoint:            at(PathAuthorize),
			TokenEndpoint:                    at(PathToken),
			IntrospectionEndpoint:            at(PathIntrospect),
			UserinfoEndpoint:                 at(PathUserinfo),
			RevocationEndpoint:               at(PathRevoke),
			EndSessionEndpoint:               at(PathLogout),
			JwksURI:                          at(PathJWKS),
			ScopesSupported:                  p.released([]string{ScopeOpenID, ScopeProfile, ScopeNationalID, ScopeSign}),
			ResponseTypesSupported:           []string{"code"},
			ResponseModesSupported:           []string{"query"},
			GrantTypesSupported:              []zoidc.GrantType{zoidc.GrantTypeCode, zoidc.GrantTypeClientCredentials},
			ACRValuesSupported:               []string{order.ACRQR, order.ACRPHR, order.ACRPHRH},
			SubjectTypesSupported:            []string{"pairwise"},
			IDTokenSigningAlgValuesSupported: []string{string(jose.ES256)},

			TokenEndpointAuthMethodsSupported:                  methods,
			TokenEndpointAuthSigningAlgValuesSupported:         algorithms,
			RevocationEndpointAuthMethodsSupported:             methods,
			RevocationEndpointAuthSigningAlgValuesSupported:    algorithms,
			IntrospectionEndpointAuthMethodsSupported:          confidential,
			IntrospectionEndpointAuthSigningAlgValuesSupported: algorithms,

			ClaimTypesSupported: []string{"normal"},
			ClaimsSupported: p.released([]string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "at_hash", "sid",
				"name", ScopeNationalID}), // the claim has the name of its scope
			CodeChallengeMethodsSupported: []zoidc.CodeChallengeMethod{zoidc.CodeChallengeMethodS256},
			UILocalesSupported:            zoidc.Locales{language.MustParse("zh-Hant"), language.English},
		},
	})
}

func (p *Provider) serveDiscovery(w http.ResponseWriter, r *http.Request) {
	servePublic(w, "application/json", p.discovery)
}
