package datasource

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/kdomanski/iso9660"
)

// seedISO is what a disk has behind the 16 sectors that ISO 9660 leaves free.
func seedISO(f *testing.F, label string, files map[string]string) []byte {
	f.Helper()
	w, err := iso9660.NewWriter()
	if err != nil {
		f.Fatal(err)
	}
	for name, content := range files {
		if err := w.AddFile(strings.NewReader(content), name); err != nil {
			f.Fatal(err)
		}
	}
	var b bytes.Buffer
	if err := w.WriteTo(&b, label); err != nil {
		f.Fatal(err)
	}
	if err := w.Cleanup(); err != nil {
		f.Fatal(err)
	}
	return b.Bytes()[isoFirst*isoSector:]
}

// shifted is a disk whose first sectors are empty.
type shifted []byte

func (s shifted) ReadAt(p []byte, offset int64) (int, error) {
	clear(p)
	if offset -= isoFirst * isoSector; offset >= 0 {
		return bytes.NewReader(s).ReadAt(p, offset)
	}
	return len(p), nil
}

// FuzzISO reads disks that may be anything. What is found is no longer than it may be.
func FuzzISO(f *testing.F) {
	f.Add(seedISO(f, "cidata", map[string]string{"meta-data": "instance-id: a\n", "user-data": "#cloud-config\n"}))
	f.Add(seedISO(f, "config-2", map[string]string{"openstack/latest/meta_data.json": "{}"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		volume, err := openISO(shifted(data))
		if err != nil {
			return
		}
		const limit = 1000
		for _, name := range []string{"meta-data", "openstack/latest/meta_data.json"} {
			if content, err := volume.read(name, limit); err == nil && len(content) > limit {
				t.Errorf("%d bytes", len(content))
			}
		}
		var sector [512]byte
		copy(sector[:], data)
		binary.LittleEndian.PutUint16(sector[510:], 0xaa55)
		if label, _ := labelFAT(sector); len(label) > 11 {
			t.Errorf("label %q", label)
		}
	})
}

// FuzzMetaData reads the metadata of every kind of source.
func FuzzMetaData(f *testing.F) {
	f.Add([]byte("instance-id: i-1\nlocal-hostname: a\npublic-keys: {a: b, c: [d]}\n"))
	f.Add([]byte("a: &a [*a]\npublic-keys: *a\n"))
	f.Add([]byte(`{"uuid": "a", "public_keys": {"a": "b\nc"}, "networks": [{"ip_address": "10.0.0.1/8"}, {"ip_address": "fe80::1%x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, parse := range []func([]byte) (Data, error){parseMetaData, parseOpenStack} {
			found, err := parse(data)
			if err != nil {
				continue
			}
			for _, key := range found.SSHKeys {
				if strings.TrimSpace(key) == "" || strings.Contains(key, "\n") {
					t.Errorf("key %q", key)
				}
			}
		}
		if found, err := parseNetworkData(data); err == nil && found.PrivateIPv4.IsValid() && !found.PrivateIPv4.Is4() {
			t.Errorf("%+v", found)
		}
	})
}

// FuzzGuestinfo decodes what the variables of a virtual machine may hold.
func FuzzGuestinfo(f *testing.F) {
	f.Add([]byte("H4sIAAAAAAACA0vOzy8oSi0uTk3hAgBI3E6GCwAAAA=="), "gzip+base64")
	f.Add([]byte("eA=="), "b64")
	f.Fuzz(func(t *testing.T, raw []byte, encoding string) {
		const limit = 1000
		if value, err := decodeGuestinfo(raw, encoding, limit); err == nil && len(value) > limit {
			t.Errorf("%d bytes", len(value))
		}
	})
}
