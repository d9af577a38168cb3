package datasource_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/datasource"
)

// sameAddresses compares addresses by ==.
var sameAddresses = cmpopts.EquateComparable(netip.Addr{})

// machine is a root directory with these files.
func machine(t testing.TB, files map[string]string) datasource.Machine {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return datasource.Machine{Root: root, Timeout: time.Minute}
}

func fetched(t *testing.T, s datasource.Source, want datasource.Data) {
	t.Helper()
	got, err := s.Fetch(t.Context())
	if err != nil {
		t.Fatalf("%s: %v", s.Name(), err)
	}
	if diff := cmp.Diff(want, got, sameAddresses); diff != "" {
		t.Errorf("%s: -want +got\n%s", s.Name(), diff)
	}
}

func notHere(t *testing.T, s datasource.Source) {
	t.Helper()
	if got, err := s.Fetch(t.Context()); !errors.Is(err, datasource.ErrNotHere) {
		t.Errorf("%s: %+v, %v", s.Name(), got, err)
	}
}

func refused(t *testing.T, s datasource.Source, want string) {
	t.Helper()
	got, err := s.Fetch(t.Context())
	if err == nil || errors.Is(err, datasource.ErrNotHere) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %+v, %v; want %s", s.Name(), got, err, want)
	}
}

func TestNothingIsHere(t *testing.T) {
	m := machine(t, map[string]string{"proc/cmdline": "root=/dev/vda1 quiet\n", "sys/class/dmi/id/product_serial": "Q-1\n"})
	names := map[string]bool{}
	for _, s := range datasource.Sources(m) {
		notHere(t, s)
		names[s.Name()] = true
	}
	if len(names) != 7 {
		t.Errorf("%v", names)
	}
}

// fake answers after a while.
type fake struct {
	name  string
	after time.Duration
	err   error
	calls *int
}

func (f fake) Name() string { return f.name }

func (f fake) Fetch(ctx context.Context) (datasource.Data, error) {
	if f.calls != nil {
		*f.calls++
	}
	timer := time.NewTimer(f.after)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return datasource.Data{}, ctx.Err()
	case <-timer.C:
		return datasource.Data{InstanceID: f.name}, f.err
	}
}

func TestDetect(t *testing.T) {
	away := datasource.ErrNotHere
	for name, tc := range map[string]struct {
		sources []datasource.Source
		want    string
		err     string
		after   time.Duration
	}{
		"the first that has something": {[]datasource.Source{fake{"a", 0, away, nil}, fake{"b", time.Second, nil, nil}, fake{"c", 0, nil, nil}}, "b", "", time.Second},
		"later ones do not hold it up": {[]datasource.Source{fake{"a", time.Second, nil, nil}, fake{"b", time.Hour, nil, nil}}, "a", "", time.Second},
		"all at the same time":         {[]datasource.Source{fake{"a", time.Second, away, nil}, fake{"b", time.Second, away, nil}, fake{"c", time.Second, nil, nil}}, "c", "", time.Second},
		"a broken one is an error":     {[]datasource.Source{fake{"a", 0, errors.New("broken"), nil}, fake{"b", 0, nil, nil}}, "", "cannot read the data source a: broken", 0},
		"none":                         {[]datasource.Source{fake{"a", 0, away, nil}}, "", away.Error(), 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				got, err := datasource.Detect(t.Context(), slog.New(slog.DiscardHandler), 10*time.Second, tc.sources...)
				if took := time.Since(start); took != tc.after {
					t.Errorf("took %v, want %v", took, tc.after)
				}
				if tc.err != "" && (err == nil || err.Error() != tc.err) || tc.err == "" && (err != nil || got.Source != tc.want || got.InstanceID != tc.want) {
					t.Errorf("%+v, %v", got, err)
				}
			})
		})
	}
}

func TestDetectLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
		defer cancel()
		_, err := datasource.Detect(ctx, slog.New(slog.DiscardHandler), time.Hour, fake{"a", 0, datasource.ErrNotHere, &calls})
		if !errors.Is(err, context.DeadlineExceeded) || calls != 3 {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
}

func TestDetectLogsNoUserData(t *testing.T) {
	m := machine(t, map[string]string{
		"var/lib/cloud/seed/nocloud/user-data": "#cloud-config\n# canary-secret\n",
		"var/lib/cloud/seed/nocloud/meta-data": "instance-id: i-1\n",
	})
	var log bytes.Buffer
	got, err := datasource.Detect(t.Context(), slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})), 0, datasource.Sources(m)...)
	if err != nil || got.Source != "seed" || strings.Contains(log.String(), "canary") || !strings.Contains(log.String(), "instance=i-1") {
		t.Errorf("%+v, %v\n%s", got, err, &log)
	}
}

func TestClassify(t *testing.T) {
	var all []netip.Addr
	for _, s := range []string{"127.0.0.1", "169.254.1.1", "fe80::1%eth0", "::1", "224.0.0.1", "100.64.0.9", "10.0.0.1", "198.51.100.1", "8.8.8.8", "fd00::1", "2001:db8::1", "::ffff:192.0.2.1"} {
		all = append(all, netip.MustParseAddr(s))
	}
	want := cloudconfig.Addresses{
		PrivateIPv4: netip.MustParseAddr("100.64.0.9"), PublicIPv4: netip.MustParseAddr("198.51.100.1"),
		PrivateIPv6: netip.MustParseAddr("fd00::1"), PublicIPv6: netip.MustParseAddr("2001:db8::1"),
	}
	if got := datasource.Classify(all); got != want {
		t.Errorf("%+v", got)
	}
}

func TestInstanceID(t *testing.T) {
	for want, files := range map[string]map[string]string{
		"4c4c4544-0000": {"sys/class/dmi/id/product_uuid": "4C4C4544-0000\n", "etc/machine-id": "abc\n"},
		"abc":           {"etc/machine-id": "abc\n"},
		"":              {"etc/machine-id": "uninitialized\n"},
	} {
		got, err := machine(t, files).InstanceID()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}
