package release_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/musterhq/muster/agent/release"
)

func TestChoose(t *testing.T) {
	r := func(version, minFrom, arch string, channels int) release.Release {
		return release.Release{Custom: release.Custom{
			Version: version, Engine: "ab", Arch: arch, MinFrom: minFrom, Channels: release.Channels[:channels],
		}}
	}
	catalog := release.Catalog{
		Releases: []release.Release{
			r("1.0", "", "amd64", 3), r("1.1", "", "any", 3), r("1.2", "", "arm64", 3), r("2.0", "1.1", "amd64", 2),
			r("2.1", "", "amd64", 1),
		},
		Minimum: map[string]string{"ab": "1.1"},
	}
	for _, tt := range []struct {
		name, version, channel, arch, pin string
		want, why                         string
	}{
		{name: "the newest of the channel", version: "1.0", channel: "stable", want: "1.1"},
		{name: "of the architecture", version: "1.0", channel: "stable", arch: "arm64", want: "1.2"},
		{name: "that it runs", version: "1.1", channel: "stable", want: "1.1"},
		{name: "by steps", version: "1.0", channel: "beta", want: "1.1"},
		{name: "after the step", version: "1.1", channel: "beta", want: "2.0"},
		{name: "a bold channel", version: "1.0", channel: "alpha", want: "2.1"},
		{name: "never back", version: "3.0", channel: "alpha", why: "newer than what channel alpha has"},
		{name: "pinned", version: "1.0", channel: "alpha", pin: "1.1", want: "1.1"},
		{name: "pinned to what is too old", version: "", channel: "alpha", pin: "1.0", why: "pinned to 1.0"},
		{name: "pinned to what is not there", version: "1.0", channel: "stable", pin: "2.1", why: "pinned to 2.1"},
		{name: "no such channel", version: "1.0", channel: "nightly", why: "no channel"},
		{name: "nothing", version: "1.0", channel: "stable", arch: "riscv64", want: "1.1"},
		{name: "a new host", channel: "stable", want: "1.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			arch := tt.arch
			if arch == "" {
				arch = "amd64"
			}
			got, err := catalog.Choose(release.Host{Version: tt.version, Channel: tt.channel, Engine: "ab", Arch: arch, Pin: tt.pin})
			if got.Version != tt.want || (err != nil) != (tt.want == "") {
				t.Fatalf("chose %q: %v; want %q", got.Version, err, tt.want)
			}
			if err != nil && (!errors.Is(err, release.ErrNoRelease) || !strings.Contains(err.Error(), tt.why)) {
				t.Errorf("error: %v", err)
			}
		})
	}
}
