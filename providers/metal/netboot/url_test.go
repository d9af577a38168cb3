package netboot

import (
	"net/url"
	"strings"
	"testing"
)

func TestScriptURL(t *testing.T) {
	for _, r := range []Request{
		{MAC: "52:54:00:00:00:01", Arch: AMD64, Firmware: BIOS},
		{MAC: "52:54:00:00:00:ff", Arch: ARM64, Firmware: UEFI, UUID: "4c4c4544-0042-3510-8052-b4c04f4e3132"},
	} {
		u, err := url.Parse(ScriptURL("http://10.0.0.1:8480", r))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseQuery(u.Query()); err != nil || got != r || u.Path != ScriptPath {
			t.Errorf("%s: %+v, %v, want %+v", u, got, err, r)
		}
	}
}

func TestParseQueryRefuses(t *testing.T) {
	for query, want := range map[string]string{
		"":                               "which machine",
		"mac=52-54-00-00-00-01":          "which machine",
		"mac=52:54:00:00:00:0A":          "which machine",
		"mac=00:00:00:00:fe:80:00:00":    "which machine",
		"mac=52:54:00:00:00:01&arch=386": "architecture",
		"mac=52:54:00:00:00:01&arch=amd64&firmware=x":                   "firmware",
		"mac=52:54:00:00:00:01&arch=amd64&firmware=bios&uuid=../../etc": "uuid",
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseQuery(values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", query, err, want)
		}
	}
}
