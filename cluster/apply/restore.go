package apply

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/cluster/backup"
	"github.com/musterhq/muster/cluster/join"
	"github.com/musterhq/muster/cluster/roster"
	"github.com/musterhq/muster/cluster/spec"
	"github.com/musterhq/muster/cluster/state"
)

// Survivors are the hosts that are there, as an operator reaches each of them without any voter.
type Survivors interface {
	// Answers reports whether a host's agent does.
	Answers(ctx context.Context, h roster.Host) bool
	// Restore has a host begin anew: as a voter that starts from the backup or, where role is nil, as a client of those.
	Restore(ctx context.Context, h roster.Host, members roster.Roster, role *join.VoterRole) error
	// Formed reports whether so many voters of the members vote.
	Formed(ctx context.Context, members roster.Roster, voters int) bool
}

// Restoration is what is about to happen to a cluster.
type Restoration struct {
	Voters []roster.Host // that begin from the backup
	Others []roster.Host // that answer too
	Lost   []roster.Host // voters that do not answer; they leave the cluster, and must never come back
	Silent []roster.Host // others that do not answer; they stay members
}

// PlanRestore chooses which of the hosts that answer vote, as the cluster file has it: those that voted before first, then
// from the provider that has the fewest, by name.
func PlanRestore(s spec.Spec, members roster.Roster, answers map[string]bool) (Restoration, error) {
	var r Restoration
	barred := map[string]bool{}
	for _, h := range s.Hosts() {
		barred[h.Name] = h.Voter != nil && !*h.Voter
	}
	var able []roster.Host
	for _, h := range members {
		switch {
		case answers[h.ID] && !barred[h.Name]:
			able = append(able, h)
		case answers[h.ID]:
			r.Others = append(r.Others, h)
		case h.Voter:
			r.Lost = append(r.Lost, h)
		default:
			r.Silent = append(r.Silent, h)
		}
	}
	if len(able) == 0 {
		return r, fmt.Errorf("cannot restore: %w", ErrNobodyAnswers)
	}
	seats := min(s.VoterCount(), len(able))
	if seats%2 == 0 {
		seats--
	}
	at := map[string]int{}
	for range seats {
		best := slices.MinFunc(able, func(a, b roster.Host) int {
			return cmp.Or(boolFirst(a.Voter, b.Voter), cmp.Compare(at[a.Provider], at[b.Provider]), cmp.Compare(a.Name, b.Name))
		})
		able = slices.DeleteFunc(able, func(h roster.Host) bool { return h.ID == best.ID })
		at[best.Provider]++
		r.Voters = append(r.Voters, best)
	}
	r.Others = append(r.Others, able...)
	return r, nil
}

func boolFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// members are who belongs to the cluster from then on.
func (r Restoration) members() roster.Roster {
	var members roster.Roster
	for _, h := range r.Voters {
		h.Voter, h.Appointed = true, false
		members = append(members, h)
	}
	for _, h := range slices.Concat(r.Others, r.Silent) {
		h.Voter, h.Appointed = false, false
		members = append(members, h)
	}
	slices.SortFunc(members, func(a, b roster.Host) int { return cmp.Compare(a.Name, b.Name) })
	return members
}

// Restore puts a cluster's records back to a backup, on the hosts that answer. agree is asked before anything is changed.
// It may be repeated: hosts that were restored begin once more.
func Restore(ctx context.Context, s spec.Spec, dir *state.Dir, m backup.Manifest, hosts Survivors, now time.Time,
	agree func(Restoration) error,
) (Restoration, error) {
	keys, err := dir.Keys(now)
	if err != nil {
		return Restoration{}, err
	}
	members, err := dir.Roster()
	if err != nil {
		return Restoration{}, err
	}
	r, err := PlanRestore(s, members, answering(ctx, members, hosts))
	if err == nil {
		err = agree(r)
	}
	if err != nil {
		return r, err
	}
	members = r.members()
	if err := restoreAll(ctx, r, members, m, keys, hosts); err != nil {
		return r, err
	}
	if err := dir.SaveRoster(members); err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeToForm, errNotFormed)
	defer cancel()
	rest := pauses{100 * time.Millisecond, time.Second}
	for !hosts.Formed(ctx, members, len(r.Voters)) {
		if err := rest.rest(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

// timeToForm is how long restored voters may take to elect a leader.
const timeToForm = time.Minute

var errNotFormed = errors.New("the hosts have their records, and the voters elect no leader: see their logs, and run `muster restore` again")

func answering(ctx context.Context, members roster.Roster, hosts Survivors) map[string]bool {
	said := make([]bool, len(members))
	var g errgroup.Group
	for i, h := range members {
		g.Go(func() error {
			said[i] = hosts.Answers(ctx, h)
			return nil
		})
	}
	_ = g.Wait()
	answers := map[string]bool{}
	for i, h := range members {
		answers[h.ID] = said[i]
	}
	return answers
}

// restoreAll tells the voters first: they alone matter.
func restoreAll(ctx context.Context, r Restoration, members roster.Roster, m backup.Manifest, keys state.Keys, hosts Survivors,
) error {
	id := rand.Text()
	role := join.VoterRole{
		State: join.StateNew, ClusterToken: m.Cluster + "-" + id, InitialCluster: map[string]string{},
		IssuerCertificate: string(keys.Issuer.CertPEM()), IssuerKey: string(keys.Issuer.KeyPEM()),
		Restore: &join.Restore{ID: id, Roster: members},
	}
	for _, h := range r.Voters {
		role.InitialCluster[h.ID] = h.PeerURL()
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, h := range r.Voters {
		own := role
		own.InitialCluster = maps.Clone(role.InitialCluster)
		g.Go(func() error {
			if err := hosts.Restore(ctx, h, members, &own); err != nil {
				return fmt.Errorf("cannot restore host %s: %w; run the same command again", h.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, h := range r.Others {
		if err := hosts.Restore(context.WithoutCancel(ctx), h, members, nil); err != nil {
			return fmt.Errorf("cannot tell host %s who votes now: %w; run the same command again", h.Name, err)
		}
	}
	return nil
}
