package backup

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func made(t testing.TB, content string) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	m := Manifest{Cluster: "uuid", Name: "demo", Revision: 7, Taken: time.Unix(1e9, 0).UTC(), Host: "node-1", Musterd: "test"}
	if err := Write(&out, m, path); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRoundTrip(t *testing.T) {
	var db bytes.Buffer
	m, err := Read(bytes.NewReader(made(t, "records")), &db)
	if err != nil || db.String() != "records" || m.Revision != 7 || m.Cluster != "uuid" || m.Size != 7 {
		t.Errorf("%+v %q, %v", m, db.String(), err)
	}
}

// TestEveryByteCounts flips each byte, and cuts the file at each: what is read is what was written, or an error.
func TestEveryByteCounts(t *testing.T) {
	const content = "the records of a cluster"
	good := made(t, content)
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		var db bytes.Buffer
		if _, err := Read(bytes.NewReader(bad), &db); err == nil && db.String() != content {
			t.Fatalf("byte %d: read %q", i, db.String())
		}
		db.Reset()
		if _, err := Read(bytes.NewReader(good[:i]), &db); err == nil && db.String() != content {
			t.Fatalf("cut at %d: read %q", i, db.String())
		}
	}
	if _, err := Read(bytes.NewReader(good[:600]), &bytes.Buffer{}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("half a backup: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(made(f, "records"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var db bytes.Buffer
		if m, err := Read(bytes.NewReader(data), &db); err == nil && int64(db.Len()) != m.Size {
			t.Errorf("%d bytes of %d", db.Len(), m.Size)
		}
	})
}
