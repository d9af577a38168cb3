package release_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/musterhq/muster/agent/release"
	"github.com/musterhq/muster/agent/release/repository"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func pathOf(version string, content []byte) string {
	sum := sha256.Sum256(content)
	return "/targets/ab/amd64/" + version + "/" + hex.EncodeToString(sum[:]) + ".image.raw"
}

// When the host meets an attack, and whether all mirrors show it, since it is not a mirror that attacks.
const (
	known      = 0         // it has seen the repository as it was
	fresh      = 1 << iota // it sees it for the first time
	everywhere             // whoever has the owner's keys, or the clock, attacks
)

// attacks is each attack of the specification's section 1.5.2, in every way that it can be tried here.
var attacks = []struct {
	name   string
	attack release.Attack
	when   int
	do     func(*world)
}{
	{"a file with other bytes", release.ArbitraryInstallation, known, func(w *world) {
		w.replace(pathOf("1.1.0", newImage), []byte(strings.Repeat("malware of one!", 10_000)))
	}},
	{"an endless timestamp", release.EndlessData, fresh, func(w *world) { w.endless("/metadata/timestamp.json") }},
	{"an endless root", release.EndlessData, fresh, func(w *world) { w.endless("/metadata/2.root.json") }},
	{"an endless snapshot", release.EndlessData, fresh, func(w *world) { w.endless("/metadata/" + w.newest("snapshot")) }},
	{"endless targets", release.EndlessData, fresh, func(w *world) { w.endless("/metadata/" + w.newest("targets")) }},
	{"an endless file", release.EndlessData, known, func(w *world) { w.endless(pathOf("1.1.0", newImage)) }},
	{"a file that the release does not list", release.ExtraneousDependencies, fresh | everywhere, func(w *world) {
		w.forgeTargets(func(t *metadata.TargetsType) {
			extra := *t.Targets["ab/amd64/1.1.0/image.raw"]
			t.Targets["ab/amd64/1.1.0/extra.raw"] = &extra
		})
	}},
	{"a file of no release", release.ExtraneousDependencies, fresh | everywhere, func(w *world) {
		w.forgeTargets(func(t *metadata.TargetsType) {
			extra := *t.Targets["ab/amd64/1.1.0/image.raw"]
			extra.Custom = nil
			t.Targets["extra"] = &extra
		})
	}},
	{"a timestamp that leaps", release.FastForward, known, func(w *world) {
		forge(w, "timestamp.json", "timestamp.json", func(t *metadata.TimestampType) { t.Version += 1 << 30 }, w.steal("timestamp")...)
	}},
	{"a timestamp of the last version", release.FastForward, fresh, func(w *world) {
		forge(w, "timestamp.json", "timestamp.json", func(t *metadata.TimestampType) { t.Version = 1<<63 - 1 }, w.steal("timestamp")...)
	}},
	{"a snapshot that leaps", release.FastForward, known, func(w *world) {
		forge(w, "timestamp.json", "timestamp.json", func(t *metadata.TimestampType) {
			t.Version++
			t.Meta["snapshot.json"].Version += 1 << 30
		}, w.steal("timestamp")...)
	}},
	{"the same again and again", release.IndefiniteFreeze, everywhere, func(w *world) { w.now = w.now.Add(repository.DefaultLife + time.Hour) }},
	{"the same from the first day", release.IndefiniteFreeze, fresh | everywhere, func(w *world) { w.now = w.now.Add(repository.DefaultLife + time.Hour) }},
	{"a root that nobody renewed", release.IndefiniteFreeze, everywhere, func(w *world) {
		w.now = w.now.Add(repository.RootLife + time.Hour)
		w.must(w.repo.Refresh())
	}},
	{"a timestamp of a stolen snapshot key", release.KeyCompromise, known, func(w *world) {
		forge(w, "timestamp.json", "timestamp.json", func(t *metadata.TimestampType) { t.Version++ }, w.steal("snapshot")...)
	}},
	{"a timestamp without signatures", release.KeyCompromise, known, func(w *world) {
		forge(w, "timestamp.json", "timestamp.json", func(t *metadata.TimestampType) { t.Version++ })
	}},
	{"a root of one stolen key of two", release.KeyCompromise, known, func(w *world) {
		forge(w, "1.root.json", "2.root.json", func(r *metadata.RootType) { r.Version++ }, w.steal("root")[0])
	}},
	{"targets of a stolen timestamp key", release.KeyCompromise, fresh | everywhere, func(w *world) {
		w.forgeTargets(func(*metadata.TargetsType) {}, "timestamp")
	}},
	{"the snapshot of another time", release.MixAndMatch, fresh, func(w *world) {
		w.replace("/metadata/"+w.newest("snapshot"), w.read("metadata/2.snapshot.json"))
	}},
	{"targets of another time", release.MixAndMatch, fresh, func(w *world) {
		w.replace("/metadata/"+w.newest("targets"), w.read("metadata/2.targets.json"))
	}},
	{"files of one release that describe it differently", release.MixAndMatch, fresh | everywhere, func(w *world) {
		w.forgeTargets(func(t *metadata.TargetsType) {
			custom := func(notes string) *json.RawMessage {
				raw := json.RawMessage(`{"version":"1.1.0","engine":"ab","arch":"amd64","channels":["alpha"],"notes":"` + notes +
					`","files":["image.raw","kernel"]}`)
				return &raw
			}
			kernel := *t.Targets["ab/amd64/1.1.0/image.raw"]
			t.Targets["ab/amd64/1.1.0/image.raw"].Custom, kernel.Custom = custom("a"), custom("b")
			t.Targets["ab/amd64/1.1.0/kernel"] = &kernel
		})
	}},
	{"an older timestamp", release.Rollback, known, func(w *world) {
		old := w.read("metadata/timestamp.json")
		w.must(w.repo.Refresh())
		w.seen() // the host sees the new one
		w.replace("/metadata/timestamp.json", old)
	}},
	{"an older snapshot", release.Rollback, known, func(w *world) {
		forge(w, "timestamp.json", "timestamp.json", func(t *metadata.TimestampType) {
			t.Version++
			t.Meta["snapshot.json"].Version--
		}, w.steal("timestamp")...)
	}},
	{"an older root", release.Rollback, known, func(w *world) { w.replace("/metadata/2.root.json", w.read("metadata/1.root.json")) }},
	{"a timestamp that trickles", release.SlowRetrieval, fresh, func(w *world) { w.trickle("/metadata/timestamp.json") }},
	{"a file that trickles", release.SlowRetrieval, known, func(w *world) { w.trickle(pathOf("1.1.0", newImage)) }},
	{"a timestamp that never comes", release.SlowRetrieval, fresh, func(w *world) {
		w.evil["/metadata/timestamp.json"] = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	}},
	{"the file of another release", release.WrongSoftware, known, func(w *world) { w.replace(pathOf("1.1.0", newImage), oldImage) }},
	{"an old release under a new name", release.WrongSoftware, fresh | everywhere, func(w *world) {
		w.forgeTargets(func(t *metadata.TargetsType) {
			t.Targets["ab/amd64/9.0.0/image.raw"] = t.Targets["ab/amd64/1.0.0/image.raw"]
		})
	}},
}

// patience is short only where a test waits for its end, and long enough there for a busy machine to answer in.
func patience(attack release.Attack) time.Duration {
	if attack == release.SlowRetrieval {
		return 2 * time.Second
	}
	return 0 // the default
}

func TestAttacks(t *testing.T) {
	for _, tt := range attacks {
		t.Run(string(tt.attack)+"/"+strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			url, kept := w.server(), t.TempDir()
			client := func() *release.Client {
				return w.client(func(c *release.Config) {
					c.Mirrors, c.Dir, c.Window, c.MinRate = []string{url}, kept, patience(tt.attack), 1<<10
				})
			}
			w.seen = func() {
				_, err := client().Check(t.Context(), host)
				w.must(err)
			}
			if tt.when&fresh == 0 {
				w.seen()
			}
			tt.do(w)
			got, files := t.TempDir(), 0
			c := client()
			r, err := c.Check(t.Context(), host)
			if err == nil {
				_, err = c.Fetch(t.Context(), r, got)
			}
			if !errors.Is(err, tt.attack) {
				t.Fatalf("not refused as %s: %v", tt.attack, err)
			}
			for _, other := range release.Attacks {
				if other != tt.attack && errors.Is(err, other) {
					t.Errorf("refused as %s too: %v", other, err)
				}
			}
			if alarms := w.alarmed(); !slices.Equal(alarms, []string{"release." + string(tt.attack)}) {
				t.Errorf("alarms: %v", alarms)
			}
			entries, err := os.ReadDir(got)
			w.must(err)
			for _, e := range entries {
				if !strings.HasSuffix(e.Name(), ".part") {
					files++
				}
			}
			if files > 0 {
				t.Errorf("it left %d files", files)
			}
		})
	}
}

// A mirror that attacks is passed over while another has the truth, and said to be one that does.
func TestMaliciousMirror(t *testing.T) {
	for _, tt := range attacks {
		if tt.when&everywhere != 0 {
			continue // no mirror has the truth
		}
		t.Run(string(tt.attack)+"/"+strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			good := newMirror(t, w)
			kept := t.TempDir()
			client := w.client(func(c *release.Config) {
				c.Mirrors, c.Dir, c.Window, c.MinRate = []string{w.server(), good}, kept, patience(tt.attack), 1<<10
			})
			w.seen = func() {
				_, err := client.Check(t.Context(), host)
				w.must(err)
			}
			if tt.when&fresh == 0 {
				w.seen()
			}
			tt.do(w)
			r, err := client.Check(t.Context(), host)
			w.must(err)
			files, err := client.Fetch(t.Context(), r, t.TempDir())
			w.must(err)
			if got, err := os.ReadFile(files[0].Path); err != nil || string(got) != string(newImage) {
				t.Errorf("the file is another: %v", err)
			}
			if alarms := w.alarmed(); !slices.Equal(alarms, []string{"release." + string(tt.attack), "release.malicious-mirror"}) {
				t.Errorf("alarms: %v", alarms)
			}
		})
	}
}

// After a fast-forward that was small enough to be believed, hosts come back when the root's owner has replaced the key.
func TestFastForwardIsRecoveredFrom(t *testing.T) {
	w := newWorld(t)
	c := w.client(nil)
	forge(w, "timestamp.json", "timestamp.json", func(t *metadata.TimestampType) { t.Version += 1000 }, w.steal("timestamp")...)
	if _, err := c.Check(t.Context(), host); err != nil {
		t.Fatal(err)
	}
	delete(w.evil, "/metadata/timestamp.json")
	if _, err := c.Check(t.Context(), host); !errors.Is(err, release.Rollback) {
		t.Fatalf("the genuine one, which is older: %v", err)
	}
	w.must(w.repo.Rotate(nil, []string{"timestamp"}, nil, ""))
	if r, err := c.Check(t.Context(), host); err != nil || r.Version != "1.1.0" {
		t.Fatalf("after the key was replaced: %v %v", r.Version, err)
	}
}

// What the repository's minimum and revocations say is refused too.
func TestRevoked(t *testing.T) {
	w := newWorld(t)
	c := w.client(nil)
	w.must(w.repo.Revoke(repository.Select{Version: "1.0.0"}, "it leaks", ""))
	catalog, err := c.Catalog(t.Context())
	w.must(err)
	if err := catalog.Allows("ab", "1.0.0"); err == nil || !strings.Contains(err.Error(), "it leaks") {
		t.Errorf("revoked: %v", err)
	}
	if err := catalog.Allows("ab", "0.9"); !errors.Is(err, release.Rollback) {
		t.Errorf("older than the revoked one: %v", err)
	}
	if err := catalog.Allows("ab", "1.1.0"); err != nil {
		t.Errorf("newer: %v", err)
	}
	if err := catalog.Allows("dir", "0.1"); err != nil {
		t.Errorf("of another engine: %v", err)
	}
}

// forgeTargets serves changed targets that are signed as they should be, or by stolen keys of other roles, and what names them.
func (w *world) forgeTargets(change func(*metadata.TargetsType), roles ...string) {
	signers := w.steal("targets")
	if len(roles) > 0 {
		signers = w.steal(roles[0])
	}
	data := forge(w, w.newest("targets"), w.newest("targets"), change, signers...)
	name := func(data []byte) *metadata.MetaFiles {
		sum := sha256.Sum256(data)
		return &metadata.MetaFiles{Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}}
	}
	snapshot := forge(w, w.newest("snapshot"), w.newest("snapshot"), func(s *metadata.SnapshotType) {
		version := s.Meta["targets.json"].Version
		s.Meta["targets.json"] = name(data)
		s.Meta["targets.json"].Version = version
	}, w.steal("snapshot")...)
	forge(w, "timestamp.json", "timestamp.json", func(t *metadata.TimestampType) {
		version := t.Meta["snapshot.json"].Version
		t.Meta["snapshot.json"] = name(snapshot)
		t.Meta["snapshot.json"].Version = version
	}, w.steal("timestamp")...)
}

// endless serves zeros without end.
func (w *world) endless(path string) {
	w.evil[path] = func(rw http.ResponseWriter, r *http.Request) {
		for zeros := make([]byte, 1<<16); r.Context().Err() == nil; {
			if _, err := rw.Write(zeros); err != nil {
				return
			}
		}
	}
}

// trickle serves a byte from time to time.
func (w *world) trickle(path string) {
	w.evil[path] = func(rw http.ResponseWriter, r *http.Request) {
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			if _, err := rw.Write([]byte{' '}); err != nil {
				return
			}
			_ = http.NewResponseController(rw).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-ticker.C:
			}
		}
	}
}
