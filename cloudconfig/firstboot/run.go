package firstboot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/datasource"
	"github.com/musterhq/muster/cloudconfig/hostfs"
)

// Files of the first boot's own. All are readable by root alone.
const (
	stateDir           = "/var/lib/muster"
	operatorRecordPath = stateDir + "/firstboot-operator.json"
	cachePath          = stateDir + "/user-data" // as the data source gave it, for boots at which it is away
	outputPath         = stateDir + "/firstboot.out"
)

// Defaults of Options.
const (
	DefaultWait        = 20 * time.Second
	DefaultNetworkWait = 10 * time.Minute
)

// Options say how a first boot goes. The zero Options are those of a real host.
type Options struct {
	Root string       // "" is "/"
	Log  *slog.Logger // nil discards
	// Operator applies cloudconfig.OperatorPath instead of the user-data, on a host whose user-data cloud-init has applied.
	// Without that file there is nothing to do.
	Operator bool
	// Sources are where user-data may come from. Nil is all of the machine's.
	Sources []datasource.Source
	// Wait is how long a data source may take to appear. 0 is DefaultWait.
	Wait time.Duration
	// NetworkWait is how long an address that the document needs may take to appear. 0 is DefaultNetworkWait.
	NetworkWait time.Duration
	// DefaultUser is the image's own account. "" is the first one for people in /etc/passwd, else `core`, which is made.
	DefaultUser string
	// System is the running machine. Nil is the program's own when the root is "/", and none otherwise: then no command is
	// run.
	System System
	// Addresses are those of the machine's interfaces. Nil asks the kernel when the root is "/".
	Addresses func() ([]netip.Addr, error)
	// Console receives the host's public SSH keys. Nil is the machine's when the root is "/", and none otherwise.
	Console io.Writer
	Now     func() time.Time // nil is time.Now
}

func (o Options) withDefaults() Options {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sources == nil {
		o.Sources = datasource.Sources(datasource.Machine{Root: o.Root})
	}
	if o.Wait == 0 {
		o.Wait = DefaultWait
	}
	if o.NetworkWait == 0 {
		o.NetworkWait = DefaultNetworkWait
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// boot is one run.
type boot struct {
	Options
	root       *hostfs.Root
	recordPath string
	record     cloudconfig.Record
	content    content
	// newInstance says that another instance, or none, was here before.
	newInstance bool
}

// content is what shall be done.
type content struct {
	doc     cloudconfig.Document
	scripts [][]byte
}

// Run does the first boot of this instance, or, when that has been done, what every boot does. Its error joins those of all
// steps that failed; datasource.ErrNotHere says that nobody told this machine anything.
func Run(ctx context.Context, o Options) error {
	o = o.withDefaults()
	root, err := hostfs.Open(o.Root)
	if err != nil {
		return fmt.Errorf("cannot start the first boot: %w", err)
	}
	defer root.Close()
	b := &boot{Options: o, root: root, recordPath: cloudconfig.RecordPath}
	if root.Real() {
		if b.System == nil {
			b.System = machine{}
		}
		if b.Addresses == nil {
			b.Addresses = interfaces
		}
		if b.Console == nil {
			b.Console = console{}
		}
	}
	if o.Operator {
		b.recordPath = operatorRecordPath
		if !root.Exists(cloudconfig.OperatorPath) {
			return nil
		}
	}
	return b.run(ctx)
}

func (b *boot) run(ctx context.Context) error {
	before, err := cloudconfig.ReadRecord(b.root, b.recordPath)
	if err != nil {
		return err
	}
	data, err := b.find(ctx, before)
	if err != nil {
		return err
	}
	done := before.Done(data.InstanceID)
	if done && before.BootID == b.bootID() {
		b.Log.Debug("the first boot of this instance has been done", "instance", data.InstanceID)
		return nil
	}
	if b.content, err = b.load(ctx, data); err != nil {
		return err
	}
	b.record = cloudconfig.Record{InstanceID: data.InstanceID, Source: data.Source}
	if b.newInstance = before.InstanceID != data.InstanceID; !b.newInstance {
		b.record = before
	}
	var failed error
	if b.record.BootID != b.bootID() {
		failed = b.bootCommands(ctx)
		b.record.BootID = b.bootID()
	}
	if done {
		b.tellHostKeys()
		return errors.Join(failed, b.record.Write(b.root, b.recordPath))
	}
	return errors.Join(failed, b.apply(ctx, data))
}

// find finds the user-data. Once there has been some, a data source that is away is no error.
func (b *boot) find(ctx context.Context, before cloudconfig.Record) (datasource.Data, error) {
	if b.Operator {
		return b.operatorData()
	}
	wait := b.Wait
	if before.InstanceID != "" {
		wait = time.Nanosecond
	}
	data, err := datasource.Detect(ctx, b.Log, wait, b.Sources...)
	if err == nil {
		return data, nil
	}
	cached, cacheErr := b.root.ReadFile(cachePath, cloudconfig.MaxUserData)
	if before.InstanceID == "" || cacheErr != nil || ctx.Err() != nil {
		return datasource.Data{}, fmt.Errorf("cannot find out what this host shall be: %w", err)
	}
	b.Log.Warn("the data source is away; going on with what it said before", "source", before.Source, "error", err)
	return datasource.Data{Source: before.Source, InstanceID: before.InstanceID, UserData: cached}, nil
}

// cloudInitInstance is where cloud-init notes the instance ID.
const cloudInitInstance = "/var/lib/cloud/data/instance-id"

// operatorData is the operator's document as if a data source had given it. Whoever wrote it knows the instance.
func (b *boot) operatorData() (datasource.Data, error) {
	data := datasource.Data{Source: "operator"}
	text, err := b.root.ReadFile(cloudconfig.OperatorPath, cloudconfig.MaxUserData)
	if err != nil {
		return data, fmt.Errorf("cannot read the operator's cloud-config: %w", err)
	}
	data.UserData = text
	if id, err := b.root.ReadFile(cloudInitInstance, 4096); err == nil {
		data.InstanceID = strings.TrimSpace(string(id))
	}
	if outer, err := cloudconfig.ReadRecord(b.root, cloudconfig.RecordPath); err == nil && data.InstanceID == "" {
		data.InstanceID = outer.InstanceID
	}
	if data.InstanceID == "" {
		data.InstanceID, err = datasource.Machine{Root: b.Root}.InstanceID()
	}
	return data, err
}

// load reads user-data into one document and its scripts.
func (b *boot) load(ctx context.Context, data datasource.Data) (content, error) {
	parts, err := cloudconfig.Open(data.UserData)
	if err != nil {
		return content{}, err
	}
	var c content
	var docs []cloudconfig.Document
	var needed []string
	for _, part := range parts {
		if part.Script() {
			c.scripts = append(c.scripts, part.Data)
			continue
		}
		doc, err := cloudconfig.Parse(part.Name, part.Data)
		if err != nil {
			return content{}, fmt.Errorf("cannot use the user-data: %w", err)
		}
		docs, needed = append(docs, doc), append(needed, doc.Addresses()...)
	}
	addresses, err := b.addresses(ctx, data.Addresses, needed)
	if err != nil {
		return content{}, err
	}
	for _, doc := range docs {
		if doc, err = doc.ExpandAddresses(addresses); err != nil {
			return content{}, fmt.Errorf("cannot use the user-data: %w", err)
		}
		c.doc = cloudconfig.Combine(c.doc, doc)
	}
	c.doc = cloudconfig.Combine(c.doc, cloudconfig.Document{SSHAuthorizedKeys: data.SSHKeys})
	switch {
	case c.doc.Hostname != "" || data.Hostname == "":
	case cloudconfig.ValidHostname(data.Hostname):
		c.doc.Hostname = data.Hostname
	default:
		b.Log.Warn("left the hostname alone: what the data source gives is none", "source", data.Source)
	}
	if c.usesCoreOS() {
		b.environment(&c.doc, addresses)
	}
	return c, nil
}

// step is one thing to do.
type step struct {
	name string
	do   func(ctx context.Context) error
}

// apply does what is done once for an instance.
func (b *boot) apply(ctx context.Context, data datasource.Data) error {
	b.record.Failed, b.record.Files, b.record.Users, b.record.Units = nil, nil, nil, nil
	var failures []error
	if !b.Operator {
		if _, err := b.root.Write(cachePath, data.UserData, 0o600, nil); err != nil {
			failures = append(failures, fmt.Errorf("cannot keep the user-data: %w", err))
		}
	}
	for _, s := range []step{
		{"hostname", b.hostname},
		{"hosts", b.hosts},
		{"users", b.users},
		{"files", b.files},
		{"host keys", b.hostKeys},
		{"units", b.units},
		{"systemd", b.startUnits},
	} {
		if ctx.Err() != nil {
			return errors.Join(append(failures, ctx.Err())...)
		}
		if err := s.do(ctx); err != nil {
			b.Log.Error("a step of the first boot failed", "step", s.name, "error", err)
			b.record.Failed = append(b.record.Failed, s.name)
			failures = append(failures, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	b.tellHostKeys()
	failures = append(failures, b.commandsOnce(ctx), b.record.Write(b.root, b.recordPath))
	b.Log.Info("applied the user-data", "instance", b.record.InstanceID, "source", b.record.Source,
		"files", len(b.record.Files), "users", len(b.record.Users), "units", len(b.record.Units), "failed", b.record.Failed)
	return errors.Join(failures...)
}

// write writes a file and notes it.
func (b *boot) write(path string, data []byte, mode fs.FileMode, who *hostfs.IDs) error {
	written, err := b.root.Write(path, data, mode, who)
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	b.note(written)
	return nil
}

// note notes a file, which may have been written before.
func (b *boot) note(written hostfs.Written) {
	b.Log.Debug("wrote a file", "path", written.Path, "mode", written.Mode)
	for i, f := range b.record.Files {
		if f.Path == written.Path {
			b.record.Files[i] = written
			return
		}
	}
	b.record.Files = append(b.record.Files, written)
}

// files writes the document's files and those that its options stand for.
func (b *boot) files(context.Context) error {
	var failures []error
	for _, f := range append(b.content.doc.WriteFiles, b.content.doc.CoreOS.Files()...) {
		if f.Owner != "" && !b.root.Owners() {
			b.Log.Debug("left the owner of a file alone: this is not the machine's root", "path", f.Path)
		}
		written, err := f.Write(b.root, hostfs.Lookup)
		if err != nil {
			failures = append(failures, fmt.Errorf("cannot write %s: %w", f.Path, err))
			continue
		}
		b.note(written)
	}
	return errors.Join(failures...)
}
