package release

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/musterhq/muster/agent/version"
)

// ErrNoRelease is that a repository has nothing for a host. What is wrapped around it tells why.
var ErrNoRelease = errors.New("there is no release for this host")

// Host is what a choice depends on.
type Host struct {
	Version string // that it runs; empty is older than all
	Channel string // one of Channels
	Engine  string // its update engine
	Arch    string // as GOARCH names it
	Pin     string // the one version that it may have; empty is any
}

// Choose returns the newest release that a host may have, which may be the one that it runs. It is never older than that, than
// the repository's minimum, nor one that was revoked.
func (c Catalog) Choose(h Host) (Release, error) {
	if !slices.Contains(Channels, h.Channel) {
		return Release{}, fmt.Errorf("%w: there is no channel %q", ErrNoRelease, h.Channel)
	}
	why := "" // the newest is none for it
	for _, r := range slices.Backward(c.Releases) {
		if r.Engine != h.Engine || r.Arch != h.Arch && r.Arch != AnyArch || !slices.Contains(r.Channels, h.Channel) {
			continue
		}
		reason := c.unfit(r, h)
		if reason == "" {
			return r, nil
		}
		why = cmp.Or(why, reason)
	}
	why = cmp.Or(why, fmt.Sprintf("channel %s has none for engine %s on %s", h.Channel, h.Engine, h.Arch))
	return Release{}, fmt.Errorf("%w: %s", ErrNoRelease, why)
}

// unfit tells why a host may not have a release of its channel.
func (c Catalog) unfit(r Release, h Host) string {
	switch err := c.Allows(r.Engine, r.Version); {
	case h.Pin != "" && version.Compare(r.Version, h.Pin) != 0:
		return fmt.Sprintf("it is pinned to %s, which channel %s does not have", h.Pin, h.Channel)
	case err != nil:
		return err.Error()
	case version.Compare(r.Version, h.Version) < 0:
		return fmt.Sprintf("it runs %s, which is newer than what channel %s has", h.Version, h.Channel)
	case r.MinFrom != "" && version.Compare(h.Version, r.MinFrom) < 0:
		return fmt.Sprintf("%s is for hosts that run %s or newer", r.Version, r.MinFrom)
	}
	return ""
}
