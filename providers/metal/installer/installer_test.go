package installer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf16"

	"github.com/musterhq/muster/providers/metal/enrol"
	"github.com/musterhq/muster/providers/metal/ledger"
	"github.com/musterhq/muster/providers/metal/netboot"
)

// table returns the first MiB of a disk with an ESP and a partition of a label.
func table(label string) []byte {
	head := make([]byte, headBytes)
	le := binary.LittleEndian
	entries := head[2*sectorBytes : 2*sectorBytes+128*128]
	copy(entries, espType[:])
	entries[16] = 7
	le.PutUint64(entries[32:], 2048)
	le.PutUint64(entries[40:], 4095)
	data := entries[3*128:]
	data[0], data[16] = 1, 8
	for i, c := range utf16.Encode([]rune(label)) {
		le.PutUint16(data[56+2*i:], c)
	}
	header := head[sectorBytes:]
	copy(header, "EFI PART")
	le.PutUint32(header[12:], 92)
	le.PutUint64(header[72:], 2)
	le.PutUint32(header[80:], 128)
	le.PutUint32(header[84:], 128)
	le.PutUint32(header[88:], crc32.ChecksumIEEE(entries))
	le.PutUint32(header[16:], crc32.ChecksumIEEE(header[:92]))
	return head
}

const (
	imageBytes = 5<<20 + 512
	diskBytes  = 16 << 20
)

// bench is a machine in memory, with its server and the image's.
type bench struct {
	image    []byte
	order    enrol.Order
	disk     []byte
	task     netboot.Task
	facts    ledger.Facts
	images   func(offset int64) (*http.Response, error)
	asked    []string // ranges of the image that were asked for
	fails    int64    // byte of the disk that cannot be written, 0 for none
	flips    int64    // byte that reads back as another
	told     []string // what the rack's server was told, in order
	progress error
	away     int // how many outcomes the server does not hear
	closed   error
	seed     Seed
	boots    []Partition
}

func newBench() *bench {
	b := &bench{disk: bytes.Repeat([]byte{0xee}, diskBytes)}
	b.image = append(table("var"), make([]byte, imageBytes-headBytes)...)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(b.image[headBytes:])
	sum := sha256.Sum256(b.image)
	b.order = enrol.Order{
		Action: netboot.ActionInstall, Attempt: 1, Host: "node-1", Instance: "i-1",
		Image: "http://rack/image", SHA256: hex.EncodeToString(sum[:]), Bytes: imageBytes,
	}
	b.task = netboot.Task{Action: netboot.ActionInstall, Attempt: 1, Boot: "b"}
	b.facts = ledger.Facts{Disks: []ledger.Disk{{Path: "/dev/sda", Model: "Disk", Bytes: diskBytes}}}
	b.images = b.rest
	return b
}

// rest is the answer of a server that knows ranges.
func (b *bench) rest(offset int64) (*http.Response, error) {
	status := http.StatusOK
	if offset > 0 {
		status = http.StatusPartialContent
	}
	return answer(status, b.image[offset:]), nil
}

func answer(status int, body []byte) *http.Response {
	return &http.Response{
		StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// cut is an answer that ends early.
func cut(r *http.Response, after int64) *http.Response {
	r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, after), broken{}))
	return r
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func (b *bench) RoundTrip(r *http.Request) (*http.Response, error) {
	b.asked = append(b.asked, r.Header.Get("Range"))
	var offset int64
	if text := r.Header.Get("Range"); text != "" {
		if _, err := fmt.Sscanf(text, "bytes=%d-", &offset); err != nil {
			return nil, err
		}
	}
	return b.images(offset)
}

func (b *bench) tell(format string, args ...any) {
	b.told = append(b.told, fmt.Sprintf(format, args...))
}

func (b *bench) Facts(context.Context, ledger.Facts) error { b.tell("facts"); return nil }

func (b *bench) Claim(context.Context, ledger.Facts) (enrol.Order, error) { return b.order, nil }

func (b *bench) Progress(_ context.Context, p enrol.Progress) error {
	if len(b.told) == 0 || b.told[len(b.told)-1] != string(p.Stage) {
		b.tell("%s", p.Stage)
	}
	return b.progress
}

func (b *bench) Outcome(_ context.Context, reason string) error {
	if b.away > 0 {
		b.away--
		return errors.New("no route to host")
	}
	b.tell("outcome %s", reason)
	return nil
}

func (b *bench) UserData(context.Context) ([]byte, error) {
	b.tell("user-data")
	return []byte("#cloud-config\n"), b.closed
}

func (b *bench) Open(path string) (Disk, error) {
	if path != "/dev/sda" {
		return nil, fmt.Errorf("cannot open %s", path)
	}
	return &memoryDisk{b}, nil
}

func (b *bench) Seed(_ string, _ int, seed Seed) error { b.seed = seed; return nil }

func (b *bench) BootFrom(p Partition, _ bool) (string, error) {
	b.boots = append(b.boots, p)
	return "", nil
}

func (b *bench) Shell(context.Context) error { b.tell("shell"); return nil }

type memoryDisk struct{ *bench }

func (d *memoryDisk) WriteAt(p []byte, at int64) (int, error) {
	if end := at + int64(len(p)); end > diskBytes || d.fails > 0 && at <= d.fails && d.fails < end {
		return 0, errors.New("no space left on device")
	}
	return copy(d.disk[at:], p), nil
}

func (d *memoryDisk) ReadAt(p []byte, at int64) (int, error) {
	n := copy(p, d.disk[at:])
	if d.flips > 0 && at <= d.flips && d.flips < at+int64(n) {
		p[d.flips-at] ^= 1
	}
	return n, nil
}

func (d *memoryDisk) Zero(_ context.Context, offset, size int64) error {
	clear(d.disk[offset : offset+size])
	return nil
}

func (d *memoryDisk) Flush() error { return nil }

func (d *memoryDisk) Close() error { return nil }

// run runs the installer in virtual time.
func (b *bench) run(t *testing.T) (err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		err = Run(t.Context(), Config{
			Task: b.task, Facts: b.facts, Server: b, Images: &http.Client{Transport: b}, Machine: b,
			Log: slog.New(slog.DiscardHandler), Waits: DefaultWaits(),
		})
	})
	return err
}

// bootable tells whether the disk has a partition table.
func (b *bench) bootable() bool {
	_, err := ParseGPT(b.disk[:headBytes])
	return err == nil
}

func (b *bench) installed(t *testing.T) {
	t.Helper()
	if err := b.run(t); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.disk[:imageBytes], b.image) {
		t.Error("the disk has something else than the image")
	}
	if got := strings.Join(b.told, ", "); got != "started, writing, verifying, configuring, user-data, outcome " {
		t.Errorf("told %s", got)
	}
	if b.seed.Host != "node-1" || b.seed.Instance != "i-1" || string(b.seed.UserData) != "#cloud-config\n" {
		t.Errorf("seeded %+v", b.seed)
	}
	if len(b.boots) != 1 || b.boots[0].Number != 1 || b.boots[0].Start != 2048 {
		t.Errorf("boots from %+v", b.boots)
	}
}

func TestInstall(t *testing.T) {
	b := newBench()
	b.installed(t)
	if tail := b.disk[diskBytes-headBytes:]; !bytes.Equal(tail, make([]byte, headBytes)) {
		t.Error("the old table's copy is still at the end of the disk")
	}
}

func TestInstallGoesOn(t *testing.T) {
	for name, bend := range map[string]func(b *bench){
		"after the server was cut off": func(b *bench) {
			b.images = func(offset int64) (*http.Response, error) {
				r, err := b.rest(offset)
				return cut(r, 1<<20+77), err
			}
		},
		"after the server was away": func(b *bench) {
			tries := 0
			b.images = func(offset int64) (*http.Response, error) {
				if tries++; tries == 2 {
					return answer(http.StatusServiceUnavailable, nil), nil
				} else if tries < 20 {
					return nil, errors.New("connection refused")
				}
				return b.rest(offset)
			}
		},
		"from the beginning with a server that knows no ranges": func(b *bench) {
			tries := 0
			b.images = func(int64) (*http.Response, error) {
				r := answer(http.StatusOK, b.image)
				if tries++; tries == 1 {
					return cut(r, 3<<20), nil
				}
				return r, nil
			}
		},
		"when nobody heard the outcome at first": func(b *bench) { b.away = 10 },
		"when progress is not heard":             func(b *bench) {},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			bend(b)
			b.installed(t)
		})
	}
}

func TestResumeAsksForTheRest(t *testing.T) {
	b := newBench()
	first := true
	b.images = func(offset int64) (*http.Response, error) {
		r, err := b.rest(offset)
		if first {
			first = false
			return cut(r, 3<<20), err
		}
		return r, err
	}
	b.installed(t)
	if want := fmt.Sprintf("bytes=%d-", 3<<20); len(b.asked) != 2 || b.asked[1] != want {
		t.Errorf("asked for %q, want %q second", b.asked, want)
	}
}

// stalled is an answer of which nothing comes until its request ends.
type stalled struct{ ctx context.Context }

func (s stalled) Read([]byte) (int, error) { <-s.ctx.Done(); return 0, s.ctx.Err() }

type tripper func(r *http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestStalledServerIsAskedAgain(t *testing.T) {
	b := newBench()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		client := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			if tries++; tries == 1 {
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(stalled{r.Context()}), ContentLength: imageBytes}, nil
			}
			return b.RoundTrip(r)
		})}
		err := Run(t.Context(), Config{
			Task: b.task, Facts: b.facts, Server: b, Images: client, Machine: b,
			Log: slog.New(slog.DiscardHandler), Waits: DefaultWaits(),
		})
		if err != nil || tries != 2 {
			t.Errorf("%d tries, %v", tries, err)
		}
	})
}

// TestInstallFails: whatever is wrong is reported, and leaves a disk that boots nothing.
func TestInstallFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		bend func(b *bench)
		want string
	}{
		{"wrong sum", func(b *bench) { b.order.SHA256 = strings.Repeat("0", 64) }, "its SHA-256 is"},
		{"image of another size", func(b *bench) { b.image = b.image[:3<<20] }, "it has 3145728 bytes, not"},
		{"image without partitions", func(b *bench) { b.setHead(make([]byte, headBytes)) }, "no GUID partition table"},
		{"disk that fills up", func(b *bench) { b.fails = 4 << 20 }, "no space left"},
		{"disk that cannot take the table", func(b *bench) { b.fails = 10 }, "no space left"},
		{"disk that reads back wrong", func(b *bench) { b.flips = 2 << 20 }, "reads back as something else"},
		{"server gone for good", func(b *bench) {
			b.images = func(offset int64) (*http.Response, error) {
				if offset > 0 {
					return nil, errors.New("connection refused")
				}
				return cut(answer(http.StatusOK, b.image), 2<<20), nil
			}
		}, "2097152 of 5243392 bytes came"},
		{"released in the middle", func(b *bench) { b.progress = &enrol.Refusal{Status: 409, Reason: "it is released"} }, "it is released"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench()
			tt.bend(b)
			if err := b.run(t); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if said := b.told[len(b.told)-1]; !strings.HasPrefix(said, "outcome ") || !strings.Contains(said, tt.want) {
				t.Errorf("told %q", b.told)
			}
			if b.bootable() || b.seed.Host != "" || len(b.boots) > 0 {
				t.Error("it is left as if it were installed")
			}
		})
	}
}

func (b *bench) setHead(head []byte) {
	copy(b.image, head)
	sum := sha256.Sum256(b.image)
	b.order.SHA256 = hex.EncodeToString(sum[:])
}

// TestRefusedBeforeTheDisk: these leave the disk as it was.
func TestRefusedBeforeTheDisk(t *testing.T) {
	for _, tt := range []struct {
		name string
		bend func(b *bench)
		want string
	}{
		{"disk too small", func(b *bench) { b.facts.Disks[0].Bytes = imageBytes - 1 }, "are needed"},
		{"no disk", func(b *bench) { b.facts.Disks = nil }, "the machine has none"},
		{"no disk of that model", func(b *bench) { b.order.Disk = "model=Other*" }, `/dev/sda is a "Disk"`},
		{"bad selector", func(b *bench) { b.order.Disk = "colour=red" }, "colour"},
		{"order that is not the script's", func(b *bench) { b.order.Action = netboot.ActionWipe }, "the boot script said to install"},
		{"image without bytes", func(b *bench) { b.order.Bytes = 0 }, "no partitions"},
		{"memory", func(b *bench) { b.task.Action, b.order.Action = netboot.ActionMemory, netboot.ActionMemory }, "installs and wipes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench()
			tt.bend(b)
			before := bytes.Clone(b.disk)
			if err := b.run(t); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if len(b.told) != 1 || !strings.Contains(b.told[0], tt.want) || !bytes.Equal(b.disk, before) {
				t.Errorf("told %q, or changed the disk", b.told)
			}
		})
	}
}

// TestHostWithoutUserData: the window is closed, so the host is not made bootable by the firmware's order, and it is told.
func TestHostWithoutUserData(t *testing.T) {
	b := newBench()
	b.closed = &enrol.Refusal{Status: 403, Reason: "no window is open"}
	if err := b.run(t); err == nil || !strings.Contains(b.told[len(b.told)-1], "no window is open") || len(b.boots) > 0 {
		t.Errorf("%v, told %q", err, b.told)
	}
}

func TestPowerCut(t *testing.T) {
	for _, at := range []int64{1 << 20, 2 << 20, 5 << 20} {
		b := newBench()
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			b.images = func(offset int64) (*http.Response, error) {
				cancel()
				r, err := b.rest(offset)
				return cut(r, at), err
			}
			_ = Run(ctx, Config{ // the power says nothing
				Task: b.task, Facts: b.facts, Server: b, Images: &http.Client{Transport: b}, Machine: b,
				Log: slog.New(slog.DiscardHandler), Waits: DefaultWaits(),
			})
		})
		if b.bootable() {
			t.Errorf("cut at byte %d, the disk boots", at)
		}
		b.told, b.images = nil, b.rest
		b.installed(t)
	}
}

func TestWipe(t *testing.T) {
	b := newBench()
	b.task.Action, b.order = netboot.ActionWipe, enrol.Order{Action: netboot.ActionWipe, Attempt: 1}
	if err := b.run(t); err != nil || !bytes.Equal(b.disk, make([]byte, diskBytes)) {
		t.Errorf("%v, or the disk is not empty", err)
	}
	if got := strings.Join(b.told, ", "); got != "started, writing, outcome " {
		t.Errorf("told %s", got)
	}
	b.facts.Disks = append(b.facts.Disks, ledger.Disk{Path: "/dev/sdb", Bytes: diskBytes})
	if err := b.run(t); err == nil || !strings.Contains(b.told[len(b.told)-1], "/dev/sdb") {
		t.Errorf("%v, told %q", err, b.told)
	}
}

func TestWithoutAttempt(t *testing.T) {
	b := newBench()
	b.task = netboot.Task{Action: netboot.ActionRescue}
	if err := b.run(t); err != nil || strings.Join(b.told, ", ") != "shell" {
		t.Errorf("%v, told %q", err, b.told)
	}
	b.told = nil
	b.task.Action = netboot.ActionDiscover
	started := time.Now()
	if err := b.run(t); err != nil || strings.Join(b.told, ", ") != "facts" {
		t.Errorf("%v, told %q", err, b.told)
	}
	if time.Since(started) > time.Minute {
		t.Error("the time was not virtual")
	}
}
