package spec

import (
	"net/url"
	"slices"
	"time"

	"github.com/musterhq/muster/cluster/store"
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
