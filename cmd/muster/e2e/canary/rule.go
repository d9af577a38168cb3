package canary

import (
	"path"
	"slices"
)

// Rule says that a secret may be in a place, and why.
type Rule struct {
	Place  string // path.Match of Hit.Place
	Secret string // path.Match of Hit.Secret
	Why    string
	Public bool // the place need not be its owner's alone
}

func (r Rule) allows(h Hit) bool {
	return (h.Private || r.Public) && matches(r.Place, h.Place) && matches(r.Secret, h.Secret)
}

func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	if err != nil {
		panic("canary: " + pattern + ": " + err.Error()) // patterns are written into tests
	}
	return ok
}

// Judge divides hits: leaks are those that no rule allows. idle are the rules that allowed nothing, and so are to be
// removed, or show that what they are about was not searched.
func Judge(hits []Hit, rules []Rule) (leaks []Hit, idle []Rule) {
	used := make([]bool, len(rules))
	for _, h := range hits {
		allowed := false
		for i, r := range rules {
			if r.allows(h) {
				allowed, used[i] = true, true
			}
		}
		if !allowed {
			leaks = append(leaks, h)
		}
	}
	for i, r := range rules {
		if !used[i] {
			idle = append(idle, r)
		}
	}
	return slices.Clip(leaks), idle
}
