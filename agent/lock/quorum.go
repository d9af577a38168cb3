package lock

import (
	"fmt"
	"slices"

	"github.com/musterhq/muster/cluster/membership"
)

// Voter is a voting member of etcd, as it is now. Learners are none.
type Voter struct {
	Host     string // host ID
	Name     string // the host's
	Provider string // "" if the roster does not say
	Healthy  bool   // it answers and knows a leader
	Leader   bool
}

// mayStop says why a host may not stand still for the sake of the voters, "" if it may. out are the hosts that hold a
// lock of any group, waiting those that want one and could get it.
func (v View) mayStop(host string, out, waiting map[string]bool) string {
	voters := v.Voters
	i := slices.IndexFunc(voters, func(v Voter) bool { return v.Host == host })
	if i < 0 {
		return ""
	}
	self, left := voters[i], 0
	for _, v := range voters {
		switch {
		case v.Host == host:
		case !out[v.Host] && v.Healthy:
			left++
		case v.Provider != self.Provider:
			return fmt.Sprintf("voter %s of provider %s is out; voters of two providers are never out at once", v.Name, v.Provider)
		}
	}
	quorum := membership.Quorum(len(voters))
	if v.AllowOutage && len(voters) <= 2 {
		quorum = len(voters) - 1 // the others at least
	}
	if left < quorum {
		return fmt.Sprintf("it votes, and without it %d of %d voters would be left, of which %d are needed", left, len(voters), quorum)
	}
	if !self.Leader {
		return ""
	}
	for _, v := range voters {
		if v.Host != host && waiting[v.Host] {
			return fmt.Sprintf("it leads etcd and goes last: voter %s waits too", v.Name)
		}
	}
	return ""
}

// votes reports whether a host is among the voters.
func votes(voters []Voter, host string) bool {
	return host != "" && slices.ContainsFunc(voters, func(v Voter) bool { return v.Host == host })
}
