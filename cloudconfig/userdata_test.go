package cloudconfig_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/golden"
)

func TestMultipart(t *testing.T) {
	parts := []cloudconfig.Part{
		{Name: "base.yaml", Data: []byte("#cloud-config\nhostname: a\n")},
		{Data: []byte("#!/bin/sh\necho " + strings.Repeat("long ", 40) + "\n")},
	}
	message := cloudconfig.Multipart(parts)
	golden.Compare(t, "testdata/multipart.txt", message)
	if !bytes.Equal(message, cloudconfig.Multipart(parts)) {
		t.Error("it is not deterministic")
	}
	parts[1].Name = "part-002"
	for name, data := range map[string][]byte{
		"plain": message, "gzip": cloudconfig.Gzip(message), "mbox": append([]byte("From nobody Mon Nov 23 00:00:00 2026\n"), message...),
	} {
		if got, err := cloudconfig.Open(data); err != nil || !cmp.Equal(got, parts) {
			t.Errorf("%s: %v\n%s", name, err, cmp.Diff(parts, got))
		}
	}
}

func TestOpen(t *testing.T) {
	config := "#cloud-config\n{}\n"
	for in, want := range map[string]string{
		"":                                       "",
		" \n":                                    "",
		config:                                   config,
		"\ufeff" + config:                        "\ufeff" + config,
		"#!/bin/sh\n":                            "#!/bin/sh\n",
		string(cloudconfig.Gzip([]byte(config))): config,
		string(cloudconfig.Gzip(nil)):            "",
	} {
		got, err := cloudconfig.Open([]byte(in))
		text := ""
		for _, p := range got {
			text += string(p.Data)
		}
		if err != nil || text != want {
			t.Errorf("%q: %q, %v", in, text, err)
		}
	}
	for in, want := range map[string]string{
		`{"ignition": {}}`:              "user-data: it is JSON, as Ignition reads it; this host reads a cloud-config",
		"#include\nhttp://x\n":          "user-data: `#include` is not supported; make it a cloud-config or a script",
		"## template: jinja\n":          "user-data: `##` is not supported; make it a cloud-config or a script",
		"hostname: a\n":                 "user-data: it is neither a cloud-config nor a script; make `#cloud-config` its first line",
		"\x1f\x8bxx":                    "cannot read the user-data: it is no gzip: unexpected EOF",
		"Content-Type: text/plain\n\nx": "cannot read the user-data: it is `text/plain`, not multipart/mixed",
		"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: rot13\n\nx\n--b--\n": "cannot read the user-data: part 1: the encoding `rot13` is not known",
		"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n":                                   "cannot read the user-data: part 1: it is neither a cloud-config nor a script; make `#cloud-config` its first line",
		"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n#!x\n", 65) + "--b--\n":   "cannot read the user-data: it has more than 64 parts",
	} {
		if got, err := cloudconfig.Open([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

func TestLimit(t *testing.T) {
	text := []byte("#cloud-config\n#" + strings.Repeat("x", 20<<10) + "\n")
	noise := make([]byte, 20<<10)
	source := rand.NewChaCha8([32]byte{})
	_, _ = source.Read(noise)
	ec2 := cloudconfig.Limit{Bytes: 16 << 10, Gzip: true}
	for name, tc := range map[string]struct {
		limit cloudconfig.Limit
		data  []byte
		err   string // "", "as it is", "gzip" or the error
	}{
		"no limit":      {cloudconfig.Limit{}, noise, "as it is"},
		"small":         {ec2, text[:100], "as it is"},
		"just":          {cloudconfig.Limit{Bytes: 100}, text[:100], "as it is"},
		"compressible":  {ec2, text, "gzip"},
		"no gzip there": {cloudconfig.Limit{Bytes: 16 << 10}, text, "the user-data has 20496 bytes, at most 16384 are taken; let the host fetch its larger files"},
		"noise":         {ec2, noise, "the user-data has 20513 bytes in gzip, at most 16384 are taken; let the host fetch its larger files"},
		"base64":        {cloudconfig.Limit{Bytes: 64 << 10, Base64: true}, bytes.Repeat([]byte("x"), 49153), "the user-data has 65540 bytes as base64, at most 65536 are taken; let the host fetch its larger files"},
		"base64 just":   {cloudconfig.Limit{Bytes: 64 << 10, Base64: true}, bytes.Repeat([]byte("x"), 49152), "as it is"},
	} {
		got, err := tc.limit.Fit(tc.data)
		var size *cloudconfig.SizeError
		switch {
		case tc.err == "as it is" && err == nil && bytes.Equal(got, tc.data):
		case tc.err == "gzip" && err == nil && tc.limit.Size(got) <= tc.limit.Bytes && bytes.HasPrefix(got, []byte{0x1f, 0x8b}):
			if parts, err := cloudconfig.Open(got); err != nil || !bytes.Equal(parts[0].Data, tc.data) {
				t.Errorf("%s: it does not come back: %v", name, err)
			}
		case errors.As(err, &size) && err.Error() == tc.err:
		default:
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// FuzzOpen looks for panics and for parts that are no parts.
func FuzzOpen(f *testing.F) {
	config := []byte("#cloud-config\n{}\n")
	message := cloudconfig.Multipart([]cloudconfig.Part{{Data: config}, {Name: "s", Data: []byte("#!/bin/sh\n")}})
	for _, seed := range [][]byte{config, message, cloudconfig.Gzip(config), cloudconfig.Gzip(message), []byte("From x\nMIME-Version: 1\n\n")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parts, err := cloudconfig.Open(data)
		if err != nil || len(parts) == 0 {
			return
		}
		again, err := cloudconfig.Open(cloudconfig.Multipart(parts))
		if err != nil || len(again) != len(parts) {
			t.Fatalf("%v", err)
		}
		for i := range parts {
			if !bytes.Equal(parts[i].Data, again[i].Data) {
				t.Fatalf("%q came back as %q", parts[i].Data, again[i].Data)
			}
		}
	})
}
