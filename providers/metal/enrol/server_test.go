package enrol

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/musterhq/muster/providers/metal/ledger"
	"github.com/musterhq/muster/providers/metal/netboot"
)

const testMAC = "52:54:00:00:00:01"

var testFacts = ledger.Facts{
	Serial: "S1", CPUs: 4, MemoryBytes: 8 << 30, NICs: []string{testMAC},
	Disks: []ledger.Disk{{Path: "/dev/sda", Model: "Disk", Bytes: 1 << 40}},
}

// rack is a ledger with the tickets and the window beside it.
type rack struct {
	ledger.Ledger
	mu       sync.Mutex
	tickets  map[string]Ticket
	open     bool
	progress []Progress
}

func (r *rack) Discover(ctx context.Context, mac string, facts ledger.Facts) error {
	_, err := r.Ledger.Discover(ctx, mac, facts)
	return err
}

func (r *rack) Apply(ctx context.Context, mac string, event netboot.Event) error {
	_, err := r.Ledger.Apply(ctx, mac, event)
	return err
}

func (r *rack) Change(_ context.Context, boot string, edit func(Ticket) (Ticket, error)) (Ticket, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ticket, ok := r.tickets[boot]
	if !ok {
		return Ticket{}, ErrUnknown
	}
	after, err := edit(ticket)
	if err == nil {
		r.tickets[boot] = after
	}
	return after, err
}

func (r *rack) Order(_ context.Context, t Ticket) (Order, error) {
	return Order{Action: t.Action, Attempt: t.Attempt, Host: "node-1", Image: "http://10.0.0.1/i", Bytes: 5}, nil
}

func (r *rack) Progress(_ context.Context, _ Ticket, p Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = append(r.progress, p)
}

func (r *rack) UserData(context.Context, Ticket) ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		return nil, ErrClosed
	}
	return []byte("#cloud-config\n"), nil
}

// newRack serves a rack on loopback, and returns a task of its server.
func newRack(t *testing.T) (*rack, netboot.Task) {
	t.Helper()
	r := &rack{Ledger: ledger.Ledger{Path: filepath.Join(t.TempDir(), "machines")}, tickets: map[string]Ticket{}, open: true}
	authority, err := NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := authority.Leaf("127.0.0.1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, listener, leaf, r, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r, netboot.Task{Server: "https://" + listener.Addr().String(), CA: authority.Hash(), MAC: testMAC}
}

// boot has the machine boot to install, and returns a client with the boot's number.
func (r *rack) boot(t *testing.T, task netboot.Task) *Client {
	t.Helper()
	for _, event := range []netboot.Event{netboot.Accept{}, netboot.Begin{}} {
		if err := r.Apply(t.Context(), testMAC, event); err != nil {
			t.Fatal(err)
		}
	}
	decision, err := r.Boot(t.Context(), netboot.Request{MAC: testMAC, Arch: netboot.AMD64, Firmware: netboot.UEFI})
	if err != nil {
		t.Fatal(err)
	}
	ticket := NewTicket(testMAC, decision)
	r.mu.Lock()
	r.tickets = map[string]Ticket{ticket.Boot: ticket}
	r.mu.Unlock()
	task.Boot = ticket.Boot
	return newClient(t, task)
}

func newClient(t *testing.T, task netboot.Task) *Client {
	t.Helper()
	client, err := NewClient(task)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.http.CloseIdleConnections)
	return client
}

func (r *rack) state(t *testing.T) netboot.Machine {
	t.Helper()
	records, err := r.Records()
	if err != nil || len(records) != 1 {
		t.Fatalf("%v, %v", records, err)
	}
	return records[0].Machine
}

func refused(err error) int {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal.Status
	}
	return 0
}

func TestInstallation(t *testing.T) {
	r, task := newRack(t)
	client, ctx := r.boot(t, task), t.Context()
	for range 2 { // an answer may be lost
		order, err := client.Claim(ctx, testFacts)
		if err != nil || order.Action != netboot.ActionInstall || order.Attempt != 1 || order.Host != "node-1" {
			t.Fatalf("%+v, %v", order, err)
		}
		if err := client.Progress(ctx, Progress{Stage: StageStarted}); err != nil {
			t.Fatal(err)
		}
	}
	if !r.state(t).Begun {
		t.Error("the installation has not begun")
	}
	if err := client.Outcome(ctx, ""); refused(err) != http.StatusConflict {
		t.Errorf("ended without user-data: %v", err)
	}
	data, err := client.UserData(ctx)
	if err != nil || string(data) != "#cloud-config\n" {
		t.Fatalf("%q, %v", data, err)
	}
	for range 2 {
		if err := client.Outcome(ctx, ""); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.state(t); got.State != netboot.Provisioned {
		t.Errorf("%+v", got)
	}
}

func TestFailure(t *testing.T) {
	r, task := newRack(t)
	client := r.boot(t, task)
	if _, err := client.Claim(t.Context(), testFacts); err != nil {
		t.Fatal(err)
	}
	if err := client.Outcome(t.Context(), "the disk\nis full "+strings.Repeat("ü", 1000)); err != nil {
		t.Fatal(err)
	}
	if got := r.state(t); got.State != netboot.Failed || !strings.HasPrefix(got.Reason, "the disk is full") {
		t.Errorf("%+v", got)
	}
}

func TestUserDataOnce(t *testing.T) {
	r, task := newRack(t)
	client := r.boot(t, task)
	if _, err := client.UserData(t.Context()); refused(err) != http.StatusForbidden {
		t.Errorf("before a claim: %v", err)
	}
	if _, err := client.Claim(t.Context(), testFacts); err != nil {
		t.Fatal(err)
	}
	r.open = false
	if _, err := client.UserData(t.Context()); refused(err) != http.StatusForbidden {
		t.Errorf("window closed: %v", err)
	}
	r.open = true
	results := make(chan error)
	for range 8 {
		go func() {
			_, err := client.UserData(t.Context())
			results <- err
		}()
	}
	got := 0
	for range 8 {
		if err := <-results; err == nil {
			got++
		} else if refused(err) != http.StatusGone {
			t.Error(err)
		}
	}
	if got != 1 {
		t.Errorf("handed over %d times", got)
	}
}

// TestForeigners are machines with the boot's number, which anybody on the network can read, and another key.
func TestForeigners(t *testing.T) {
	r, task := newRack(t)
	client, ctx := r.boot(t, task), t.Context()
	thief := newClient(t, client.task)
	if _, err := client.Claim(ctx, testFacts); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"progress": thief.Progress(ctx, Progress{Stage: StageStarted}),
		"outcome":  thief.Outcome(ctx, "I say so"),
	} {
		if refused(err) != http.StatusForbidden {
			t.Errorf("%s of another: %v", name, err)
		}
	}
	if _, err := thief.UserData(ctx); refused(err) != http.StatusForbidden {
		t.Errorf("user-data of another: %v", err)
	}
	if got := r.state(t); got.State != netboot.Installing || got.Begun {
		t.Errorf("%+v", got)
	}
	if _, err := thief.Claim(ctx, testFacts); refused(err) != http.StatusConflict {
		t.Errorf("second claim: %v", err)
	}
	if _, err := client.UserData(ctx); refused(err) != http.StatusConflict {
		t.Errorf("user-data of a contested boot: %v", err)
	}
	if got := r.state(t); got.State != netboot.Failed || !strings.Contains(got.Reason, "two machines") {
		t.Errorf("%+v", got)
	}
}

func TestReplayOfAnEarlierBoot(t *testing.T) {
	r, task := newRack(t)
	early := r.boot(t, task)
	if _, err := early.Claim(t.Context(), testFacts); err != nil {
		t.Fatal(err)
	}
	late := r.boot(t, task)
	if _, err := early.UserData(t.Context()); refused(err) != http.StatusNotFound {
		t.Errorf("an earlier boot: %v", err)
	}
	if _, err := late.Claim(t.Context(), testFacts); err != nil {
		t.Error(err)
	}
}

func TestUnknownMachine(t *testing.T) {
	r, task := newRack(t)
	client := newClient(t, task)
	if err := client.Facts(t.Context(), testFacts); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Claim(t.Context(), testFacts); refused(err) != http.StatusNotFound {
		t.Errorf("claim: %v", err)
	}
	if _, err := client.UserData(t.Context()); refused(err) != http.StatusNotFound {
		t.Errorf("user-data: %v", err)
	}
	if got := r.state(t); got != (netboot.Machine{State: netboot.Discovered}) {
		t.Errorf("%+v", got)
	}
}

func TestServerThatIsNotPinned(t *testing.T) {
	_, task := newRack(t)
	other, err := NewAuthority(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, wrong := range map[string]netboot.Task{
		"another CA":   {Server: task.Server, CA: other.Hash(), MAC: testMAC},
		"another name": {Server: strings.Replace(task.Server, "127.0.0.1", "localhost", 1), CA: task.CA, MAC: testMAC},
	} {
		if err := newClient(t, wrong).Facts(t.Context(), testFacts); err == nil || refused(err) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAuthorityIsKept(t *testing.T) {
	// Machines' clocks may be years off: the leaf counts as valid at its beginning.
	a, err := NewAuthority(time.Now().AddDate(30, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	text, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseAuthority(text)
	if err != nil || a.Hash() != b.Hash() {
		t.Fatal(err)
	}
	if _, err := b.Leaf("rack.example", time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := ParseAuthority([]byte("nothing")); err == nil {
		t.Error("nothing is a CA")
	}
}

func TestHostileRequests(t *testing.T) {
	r, task := newRack(t)
	client := r.boot(t, task)
	many := testFacts
	many.NICs = make([]string, maxParts+1)
	long := testFacts
	long.Serial = strings.Repeat("x", maxText+1)
	control := testFacts
	control.Disks = []ledger.Disk{{Model: "\x1b[2J"}}
	negative := testFacts
	negative.MemoryBytes = -1
	huge := testFacts
	huge.Disks = make([]ledger.Disk, 10_000)
	for name, facts := range map[string]ledger.Facts{"many": many, "long": long, "control": control, "negative": negative, "huge": huge} {
		if err := client.Facts(t.Context(), facts); refused(err) != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := client.Claim(t.Context(), facts); refused(err) != http.StatusBadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	client.task.MAC = "../../etc"
	if err := client.Facts(t.Context(), testFacts); refused(err) != http.StatusBadRequest {
		t.Errorf("MAC: %v", err)
	}
	for _, p := range []Progress{{}, {Stage: "x"}, {Stage: StageStarted, Done: -1}, {Stage: StageStarted, Disk: "\x00"}} {
		if err := client.Progress(t.Context(), p); refused(err) != http.StatusBadRequest {
			t.Errorf("%+v: %v", p, err)
		}
	}
	if got := r.state(t); got.State != netboot.Installing || got.Begun {
		t.Errorf("%+v", got)
	}
}

func TestWithoutCertificate(t *testing.T) {
	r, _ := newRack(t)
	w := httptest.NewRecorder()
	Handler(r, slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodPost, pathFacts, strings.NewReader("{}")))
	if w.Code != http.StatusForbidden {
		t.Error(w.Code)
	}
}

func FuzzRequests(f *testing.F) {
	good, err := json.Marshal(factsRequest{testMAC, testFacts})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"boot":"x","stage":"started","done":-1}`))
	f.Add([]byte(`{"facts":{"disks":[{"bytes":1e400}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if r, err := decode[factsRequest](bytes.NewReader(body)); err == nil && checkFacts(r.Facts) == nil {
			again, err := json.Marshal(r.Facts)
			if err != nil || len(again) > 4*maxFacts+maxParts*(maxText*6*3+128) {
				t.Errorf("%d bytes, %v", len(again), err)
			}
		}
		if r, err := decode[progressRequest](bytes.NewReader(body)); err == nil && r.check() == nil && r.Done < 0 {
			t.Error(r)
		}
		if r, err := decode[outcomeRequest](io.LimitReader(bytes.NewReader(body), maxRequest)); err == nil {
			if err := checkText("reason", shorten(r.Reason), maxReason); err != nil {
				t.Error(err)
			}
		}
	})
}
