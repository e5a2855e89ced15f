package certpath

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
)

// policyGraph computes for which policies a path is valid (RFC 5280 §6.1). The
// tree of RFC 5280 can grow without measure when policies are mapped; the graph
// of RFC 9618 gives the same answer with one node a policy and certificate.
type policyGraph struct {
	level map[string]*policyNode // of the certificate processed last; nil: no policy holds
}

type policyNode struct {
	policy   string
	expected map[string]bool // expected_policy_set
	parents  []*policyNode
}

func newPolicyGraph() policyGraph {
	return policyGraph{level: map[string]*policyNode{anyPolicyID: {policy: anyPolicyID, expected: map[string]bool{anyPolicyID: true}}}}
}

var (
	anyPolicy   = asn1.ObjectIdentifier{2, 5, 29, 32, 0}
	anyPolicyID = anyPolicy.String()
)

// empty is the valid_policy_tree being NULL.
func (g *policyGraph) empty() bool { return len(g.level) == 0 }

// certificate is §6.1.3 (d) and (e). anyCounts tells whether anyPolicy is
// processed in this certificate.
func (g *policyGraph) certificate(policies []x509.OID, anyCounts bool) {
	next := make(map[string]*policyNode)
	add := func(policy string, parents ...*policyNode) {
		next[policy] = &policyNode{policy: policy, expected: map[string]bool{policy: true}, parents: parents}
	}
	wildcard := false
	for _, p := range policies {
		id := p.String()
		if id == anyPolicyID {
			wildcard = true
			continue
		}
		if parents := g.expecting(id); len(parents) > 0 {
			add(id, parents...)
		} else if top := g.level[anyPolicyID]; top != nil {
			add(id, top)
		}
	}
	if wildcard && anyCounts {
		for _, node := range g.level {
			for id := range node.expected {
				if next[id] == nil {
					add(id, g.expecting(id)...)
				}
			}
		}
	}
	g.level = next
}

func (g *policyGraph) expecting(id string) []*policyNode {
	var out []*policyNode
	for _, node := range g.level {
		if node.expected[id] {
			out = append(out, node)
		}
	}
	return out
}

// mappings is §6.1.4 (a) and (b).
func (g *policyGraph) mappings(list []x509.PolicyMapping, allowed bool) error {
	to := make(map[string]map[string]bool)
	for _, m := range list {
		from, into := m.IssuerDomainPolicy.String(), m.SubjectDomainPolicy.String()
		if from == anyPolicyID || into == anyPolicyID {
			return errors.New("a policy mapping from or to anyPolicy")
		}
		if to[from] == nil {
			to[from] = make(map[string]bool)
		}
		to[from][into] = true
	}
	for from, expected := range to {
		node, top := g.level[from], g.level[anyPolicyID]
		switch {
		case !allowed:
			delete(g.level, from)
		case node != nil:
			node.expected = expected
		case top != nil:
			g.level[from] = &policyNode{policy: from, expected: expected, parents: top.parents}
		}
	}
	return nil
}

// valid gives the policies, in the anchor's terms, for which the path is valid:
// the authority-constrained set cut to the user's (§6.1.5 (g)). all means that
// every policy is.
func (g *policyGraph) valid(user []asn1.ObjectIdentifier) (ids []string, all bool) {
	authority := make(map[string]bool)
	seen := make(map[*policyNode]bool)
	var up func(n *policyNode)
	up = func(n *policyNode) {
		if seen[n] {
			return
		}
		seen[n] = true
		for _, p := range n.parents {
			if p.policy == anyPolicyID {
				authority[n.policy] = true
				return
			}
		}
		for _, p := range n.parents {
			up(p)
		}
	}
	for _, n := range g.level {
		up(n)
	}
	wanted := func(id string) bool {
		return len(user) == 0 || slices.ContainsFunc(user, func(u asn1.ObjectIdentifier) bool { s := u.String(); return s == id || s == anyPolicyID })
	}
	anyUser := wanted(anyPolicyID)
	if authority[anyPolicyID] {
		if anyUser {
			return nil, true
		}
		for _, u := range user {
			ids = append(ids, u.String())
		}
		return ids, false
	}
	for id := range authority {
		if wanted(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, false
}
