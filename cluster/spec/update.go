package spec

import (
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/musterhq/muster/cluster/store"
	"github.com/musterhq/muster/cluster/window"
)

// Update is how hosts update. Without a source they do not.
type Update struct {
	store.UpdateSettings
	Max int // hosts that may reboot at once, 0 for what `muster lock max` says
}

// updateFile is the shape of `update`.
type updateFile struct {
	Source      []string      `yaml:"source" jsonschema:"minItems=1,description=http or https URLs of the repository of releases that muster release makes\\, the preferred first. Without it hosts do not update."`
	Root        string        `yaml:"root" jsonschema:"description=Path of the repository's root.json\\, by which everything from there is verified."`
	Channel     string        `yaml:"channel" jsonschema:"enum=alpha,enum=beta,enum=stable,default=stable,description=Releases that hosts take."`
	Engine      string        `yaml:"engine" jsonschema:"enum=ab,enum=dir,enum=agent,enum=exec,description=What writes releases to a host: ab writes the passive one of the two slots of muster's image and reboots into it; dir replaces musterd and reboots the host of the driver local; agent replaces musterd and reboots nothing; exec runs programs of yours in /etc/muster/update.d. Without it dir for hosts of local\\, ab for those of the image and agent for others."`
	Max         int           `yaml:"max" jsonschema:"minimum=0,description=How many hosts may reboot at once. Without it what muster lock max says: one."`
	Interval    time.Duration `yaml:"interval" jsonschema:"default=10m,description=How often hosts ask for releases. From 1s to 24h."`
	Drain       time.Duration `yaml:"drain" jsonschema:"default=5m,description=How long units may take to move away before a host reboots. From 1s to 24h."`
	Health      healthFile    `yaml:"health" jsonschema:"description=When a host is well after an update."`
	AllowOutage bool          `yaml:"allow_outage" jsonschema:"default=false,description=Clusters of one or two voters let their voters reboot\\, which stops the shared state meanwhile. Otherwise those never update."`

	Windows  []string          `yaml:"windows" jsonschema:"description=When hosts may begin to reboot: days\\, time of day\\, how long and time zone\\, as in Mon\\,Thu 23:00 2h Europe/Berlin; days and zone may be left out. Without it at any time."`
	Canaries map[string]string `yaml:"canaries" jsonschema:"description=Labels of hosts that take a release first. The others follow when all that have them run it and are well."`
	Soak     time.Duration     `yaml:"soak" jsonschema:"description=How long canaries run a release before others follow. From 1s to 720h."`
	PerHour  int               `yaml:"per_hour" jsonschema:"minimum=0,maximum=100,description=How many percent of the hosts begin in an hour\\, once canaries are well. Without it all may at once\\, as far as max allows."`
	Budget   int               `yaml:"failures" jsonschema:"minimum=0,default=0,description=On how many hosts a release may fail\\, or that may be lost while they boot it\\, without the others stopping."`
}

type healthFile struct {
	Within time.Duration `yaml:"within" jsonschema:"default=5m,description=A host that is not well by then tries again\\, three times in all\\, and then falls back. From 1s to 24h."`
	Checks []string      `yaml:"checks" jsonschema:"description=Shell commands that succeed on a host that is well."`
}

// Bounds of the durations of `update`.
const (
	minUpdateTime = time.Second
	maxUpdateTime = 24 * time.Hour
)

// maxRootBytes is more than any root.json has.
const maxRootBytes = 256 << 10

// update reads how hosts update.
func (p *parser) update(raw updateFile) {
	u := &p.spec.Update
	u.Source, u.Channel, u.Engine, u.Max, u.AllowOutage = raw.Source, raw.Channel, raw.Engine, raw.Max, raw.AllowOutage
	u.Checks = raw.Health.Checks
	p.updateRules(raw)
	u.IntervalMillis = p.updateTime("update.interval", raw.Interval)
	u.DrainMillis = p.updateTime("update.drain", raw.Drain)
	u.HealthMillis = p.updateTime("update.health.within", raw.Health.Within)
	if raw.Max < 0 {
		p.at("update.max", "give 1 or more", "%d hosts cannot reboot at once", raw.Max)
	}
	p.oneOf("update.channel", raw.Channel, []string{"alpha", "beta", "stable"})
	p.oneOf("update.engine", raw.Engine, []string{"ab", "dir", "agent", "exec"})
	for _, source := range raw.Source {
		if at, err := url.Parse(source); err != nil || at.Host == "" || !slices.Contains([]string{"http", "https"}, at.Scheme) {
			p.at("update.source", "write https://releases.example.org/muster", "`%s` is no URL of a server", source)
		}
	}
	switch {
	case len(raw.Source) > 0 && raw.Root == "":
		p.at("update", "add `root: root.json`, which `muster release init` wrote", "`update.root` is missing: nothing from the source could be verified")
	case len(raw.Source) == 0 && raw.Root != "":
		p.at("update", "add `source: [https://releases.example.org/muster]`", "`update.source` is missing")
	case raw.Root != "":
		path := p.Path(raw.Root)
		data, err := p.ReadFile(path, maxRootBytes)
		if err != nil {
			p.at("update.root", pathHint(raw.Root, path, err), "cannot read the root of releases: %v", err)
		}
		u.Root = data
	}
}

// maxSoak bounds how long canaries run a release before others follow.
const maxSoak = 30 * 24 * time.Hour

// updateRules reads who takes releases when.
func (p *parser) updateRules(raw updateFile) {
	u := &p.spec.Update
	u.Windows, u.Canaries, u.PerHour, u.Budget = raw.Windows, raw.Canaries, raw.PerHour, raw.Budget
	for i, text := range raw.Windows {
		if _, err := window.Parse(text); err != nil {
			p.at(fmt.Sprintf("update.windows[%d]", i), "", "%v", err)
		}
	}
	if raw.Soak != 0 && (raw.Soak < minUpdateTime || raw.Soak > maxSoak) {
		p.at("update.soak", "from 1s to 720h is possible", "%s is too %s", short(raw.Soak), tooWhat(raw.Soak < minUpdateTime))
	}
	if raw.Soak != 0 && len(raw.Canaries) == 0 {
		p.at("update.soak", "add `canaries: {LABEL: VALUE}`", "there are no canaries to wait for")
	}
	u.SoakMillis = raw.Soak.Milliseconds()
	if raw.PerHour < 0 || raw.PerHour > 100 {
		p.at("update.per_hour", "give 1 to 100", "%d is no percentage", raw.PerHour)
	}
	if raw.Budget < 0 {
		p.at("update.failures", "0 stops at the first", "%d failures cannot be borne", raw.Budget)
	}
}

// canaries refuses labels that no host has: nobody would go first, and all others at once.
func (p *parser) canaries() {
	want := p.spec.Update.Canaries
	goesFirst := func(g Group) bool {
		for key, value := range want {
			if got, has := g.Labels[key]; !has || got != value {
				return false
			}
		}
		return true
	}
	if p.whole && len(want) > 0 && !slices.ContainsFunc(p.spec.Groups, goesFirst) {
		p.at("update.canaries", "give them to `labels` of some hosts", "no host has these labels, so that none would go first")
	}
}

func (p *parser) oneOf(path, value string, words []string) {
	if value != "" && !slices.Contains(words, value) {
		p.at(path, suggest(value, words), "`%s` is not known here", value)
	}
}

// updateTime is a duration in milliseconds, 0 if none is given.
func (p *parser) updateTime(path string, d time.Duration) int64 {
	if d != 0 && (d < minUpdateTime || d > maxUpdateTime) {
		p.at(path, "from 1s to 24h is possible", "%s is too %s", short(d), tooWhat(d < minUpdateTime))
	}
	return d.Milliseconds()
}
