package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Fetched is a file of a release on this host's disk, of the length and SHA-256 that the metadata vouches for.
type Fetched struct {
	Name   string
	Path   string // absolute if the directory was
	Size   int64  // bytes
	SHA256 string // 64 lower-case hexadecimal digits
}

// Fetch has every file of a release in a directory, under its own name, and returns them sorted by name. What is there already is
// verified and kept, and what was cut off goes on: its name ends in .part. Peers are asked before mirrors. The release must be one
// that this client's Catalog returned.
func (c *Client) Fetch(ctx context.Context, r Release, dir string) ([]Fetched, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot keep release %s: %w", r.Version, err)
	}
	d := download{c: c, release: r, dir: dir, refused: map[string]bool{}, silent: map[string]bool{}}
	var files []Fetched
	for _, file := range r.Contents {
		if err := d.fetch(ctx, file); err != nil {
			return nil, fmt.Errorf("cannot fetch %s of release %s: %w", file.Name, r.Version, err)
		}
		files = append(files, Fetched{Name: file.Name, Path: filepath.Join(dir, file.Name), Size: file.Size, SHA256: file.SHA256})
	}
	return files, nil
}

// download fetches one release.
type download struct {
	c       *Client
	release Release
	dir     string
	refused map[string]bool // sources, by URL, that gave what they should not have
	silent  map[string]bool // peers, by ID, that did not answer
}

// source is a place that may have a file.
type source struct {
	url    string // of the file
	name   string // of the place
	remote remote
}

func (d *download) fetch(ctx context.Context, file File) error {
	final := filepath.Join(d.dir, file.Name)
	if ok, err := holds(ctx, final, file); err != nil {
		return err
	} else if ok {
		d.c.cfg.Shelf.put(file.SHA256, final)
		return nil
	}
	done := d.c.cfg.Shelf.want(file.SHA256)
	defer done()
	if err := d.download(ctx, file); err != nil {
		return err
	}
	if err := os.Rename(part(d.dir, file), final); err != nil {
		return err
	}
	if err := syncDir(d.dir); err != nil {
		return err
	}
	d.c.cfg.Shelf.put(file.SHA256, final)
	return nil
}

// download asks peers, for as long as one of them is about to have the file, and then the mirrors.
func (d *download) download(ctx context.Context, file File) error {
	if ok, err := d.fromPeers(ctx, file); ok || err != nil {
		return err
	}
	var refusals []*Refusal
	var last error
	for _, mirror := range d.c.cfg.Mirrors {
		path := "targets/" + d.release.Dir() + "/" + file.SHA256 + "." + file.Name
		err := d.from(ctx, source{url: fileURL(mirror, path), name: mirror, remote: d.c.remote}, file)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
			refusals = append(refusals, refusal)
			continue
		}
		if err == nil {
			d.accuse(refusals)
			return nil
		}
		last = fmt.Errorf("%s: %w", mirror, err)
	}
	if len(refusals) > 0 {
		return refusals[0]
	}
	return last
}

func (d *download) accuse(refusals []*Refusal) {
	for _, r := range refusals {
		d.c.alarm(&Refusal{Attack: MaliciousMirror, Subject: r.Subject, Source: r.Source, Err: r})
	}
}

// from has the whole file in its .part, verified and on stable storage, from one source. A source that gives something else is a
// *Refusal, and asked no more.
func (d *download) from(ctx context.Context, s source, file File) error {
	if d.refused[s.name] {
		return fmt.Errorf("it was refused before: %w", errAbsent)
	}
	resumed, err := d.transfer(ctx, s, file)
	if errors.Is(err, errDifferent) && resumed { // who of several gave what is wrong is not known
		_, err = d.transfer(ctx, s, file)
	}
	if err == nil {
		return nil
	}
	attack, hostile := attackOf(err, MixAndMatch)
	if !hostile {
		return err
	}
	d.refused[s.name] = true
	refusal := &Refusal{Attack: attack, Subject: d.release.Dir() + "/" + file.Name, Source: s.name, Err: err}
	d.c.alarm(refusal)
	return refusal
}

// errDifferent is a whole file with another SHA-256. It is wrapped with the attack that it stands for.
var errDifferent = errors.New("its SHA-256 is another")

// transfer reads what is missing of a file, and tells whether something was there before.
func (d *download) transfer(ctx context.Context, s source, file File) (resumed bool, err error) {
	f, err := os.OpenFile(part(d.dir, file), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	sum, have, err := begun(ctx, f, file)
	if err != nil {
		return false, err
	}
	if have < file.Size {
		if have, err = d.receive(ctx, s, file, f, sum, have, &resumed); err != nil {
			return resumed, err
		}
	} else {
		resumed = true
	}
	if err := d.check(file, sum, have); err != nil {
		return resumed, errors.Join(err, f.Truncate(0))
	}
	return resumed, f.Sync()
}

// receive appends to a file what a source has of it from an offset on, or all of it if the source gives no parts.
func (d *download) receive(ctx context.Context, s source, file File, f *os.File, sum hash.Hash, have int64, resumed *bool) (int64, error) {
	b, err := s.remote.open(ctx, s.url, have)
	if err != nil {
		return have, err
	}
	defer b.close()
	if b.offset != have {
		have = 0
		sum.Reset()
		if err := f.Truncate(0); err != nil {
			return 0, err
		}
	}
	*resumed = have > 0
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return have, err
	}
	n, err := io.Copy(io.MultiWriter(f, sum, d.c.cfg.Shelf.progress(file.SHA256)), io.LimitReader(b, file.Size-have+1))
	have += n
	switch {
	case have > file.Size:
		return have, errors.Join(fmt.Errorf("%w: more than the %d bytes that its metadata says", EndlessData, file.Size), f.Truncate(0))
	case err != nil:
		return have, err
	case have < file.Size:
		return have, fmt.Errorf("it ended after %d of %d bytes", have, file.Size)
	}
	return have, nil
}

// check compares what was received with what the metadata says.
func (d *download) check(file File, sum hash.Hash, have int64) error {
	got := hex.EncodeToString(sum.Sum(nil))
	if have == file.Size && got == file.SHA256 {
		return nil
	}
	for _, other := range d.release.Contents {
		if other.SHA256 == got {
			return fmt.Errorf("%w: %w: it is %s of the same release", WrongSoftware, errDifferent, other.Name)
		}
	}
	if other := d.c.known(got); other != "" {
		return fmt.Errorf("%w: %w: it is %s", WrongSoftware, errDifferent, other)
	}
	return fmt.Errorf("%w: %w: %s, not %s", ArbitraryInstallation, errDifferent, got, file.SHA256)
}

// begun reads what is there of a file. What is too long is begun anew.
func begun(ctx context.Context, f *os.File, file File) (hash.Hash, int64, error) {
	sum := sha256.New()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if info.Size() > file.Size {
		return sum, 0, f.Truncate(0)
	}
	n, err := io.Copy(sum, reader{ctx, f})
	return sum, n, err
}

// reader is one that ends with a context.
type reader struct {
	ctx  context.Context
	from io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.from.Read(b)
}

// holds tells whether a file is there and right.
func holds(ctx context.Context, path string, file File) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || info.Size() != file.Size {
		return false, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, reader{ctx, f}); err != nil {
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) == file.SHA256, nil
}

// part is where a file grows. Its name has the content's, so that another release's part is not taken for it.
func part(dir string, file File) string {
	return filepath.Join(dir, "."+file.Name+"."+file.SHA256[:16]+".part")
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// known names a file of the repository by its SHA-256, as of the last Catalog.
func (c *Client) known(sum string) string {
	c.walk.Lock()
	defer c.walk.Unlock()
	for _, r := range c.last.Releases {
		if i := slices.IndexFunc(r.Contents, func(f File) bool { return f.SHA256 == sum }); i >= 0 {
			return r.Dir() + "/" + r.Contents[i].Name
		}
	}
	return ""
}
