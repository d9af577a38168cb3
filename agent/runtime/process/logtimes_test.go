package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// grow appends to a log and notes its size at a time.
func grow(t *testing.T, log string, bytes int, at time.Time) {
	t.Helper()
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, bytes)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(log, at, at); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	if err := appendTime(log+".times", info); err != nil {
		t.Fatal(err)
	}
}

func TestLogTimes(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if got := readTimes(log+".times", log).of(0); !got.IsZero() {
		t.Errorf("nothing was written at %v", got)
	}
	begin := time.UnixMicro(1700000000000000)
	grow(t, log, 10, begin)
	grow(t, log, 10, begin.Add(time.Minute))
	last := begin.Add(time.Hour)
	if err := os.Chtimes(log, last, last); err != nil {
		t.Fatal(err)
	}
	times := readTimes(log+".times", log)
	for offset, want := range map[int64]time.Time{0: begin, 9: begin, 10: begin.Add(time.Minute), 19: begin.Add(time.Minute), 20: last} {
		if got := times.of(offset); !got.Equal(want) {
			t.Errorf("byte %d was written at %v, want %v", offset, got, want)
		}
	}
}

// TestLogTimesAreBounded has a record that was not written to its end, and more than there may be.
func TestLogTimesAreBounded(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	path := log + ".times"
	begin := time.UnixMicro(1700000000000000)
	for i := range 4 {
		grow(t, log, 10, begin.Add(time.Duration(i)*time.Second))
	}
	records, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, append(records, 1, 2, 3), 0o600); err != nil {
		t.Fatal(err)
	}
	grow(t, log, 10, begin.Add(time.Minute))
	times := readTimes(path, log)
	if len(times.records) != 3*timeRecord {
		t.Fatalf("%d bytes of records, want three", len(times.records))
	}
	for offset, want := range map[int64]time.Duration{0: time.Second, 39: 3 * time.Second, 49: time.Minute} {
		if got := times.of(offset); !got.Equal(begin.Add(want)) {
			t.Errorf("byte %d was written at %v, want %v later than the first", offset, got, want)
		}
	}
	if err := os.WriteFile(path, make([]byte, maxTimes*timeRecord), 0o600); err != nil {
		t.Fatal(err)
	}
	grow(t, log, 10, begin)
	if info, err := os.Stat(path); err != nil || info.Size() != (maxTimes/2+1)*timeRecord {
		t.Errorf("%d bytes of records, %v", info.Size(), err)
	}
}
