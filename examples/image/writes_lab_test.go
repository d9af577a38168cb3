//go:build lab

package image

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

// write is one of a disk's, or a flush, as QEMU's blklogwrites notes them in the format of Linux's dm-log-writes.
type write struct {
	log      string
	data     int64 // offset in the log
	at, size int64 // on the disk, in bytes
	flush    bool  // what was written before is on the disk for good
}

func (w write) end() int64 { return w.data + w.size }

// readWrites reads a log.
func readWrites(t *testing.T, log string) []write {
	t.Helper()
	const (
		sector      = 512
		flush, unit = 1, 2 // others are of requests that these machines do not make
	)
	file, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	var writes []write
	for at := int64(sector); at+sector <= info.Size(); { // behind the superblock
		var entry struct{ Sector, Sectors, Flags, Length uint64 }
		if err := binary.Read(io.NewSectionReader(file, at, sector), binary.LittleEndian, &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Flags&^(flush|unit) != 0 {
			t.Fatalf("%s: flags %#x at %d", log, entry.Flags, at)
		}
		w := write{
			log: log, data: at + sector, at: int64(entry.Sector) * sector, size: int64(entry.Sectors) * sector, flush: entry.Flags&flush != 0,
		}
		if w.end() > info.Size() { // the machine was turned off in its midst
			break
		}
		writes = append(writes, w)
		at = w.end()
	}
	return writes
}

// apply has the first bytes of a write reach a disk.
func (w write) apply(t *testing.T, disk *os.File, bytes int64) {
	t.Helper()
	log, err := os.Open(w.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := io.Copy(io.NewOffsetWriter(disk, w.at), io.NewSectionReader(log, w.data, bytes)); err != nil {
		t.Fatal(err)
	}
}

// replay makes a disk as it is after a cut of the power, before which the last of the writes was under way: any number of its
// sectors has arrived. Of the writes since the last flush all others have, or any of them when the disk kept them in a cache.
func replay(t *testing.T, fresh, disk string, writes []write, cached bool, random *rand.Rand) {
	t.Helper()
	run(t, "cp", "--sparse=always", fresh, disk)
	file, err := os.OpenFile(disk, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	last, flushed := len(writes)-1, 0
	for i, w := range writes[:last] {
		if w.flush {
			flushed = i
		}
	}
	for i, w := range writes {
		switch {
		case i == last:
			w.apply(t, file, random.Int64N(w.size/512+1)*512)
		case i < flushed || !cached || random.IntN(2) == 0:
			w.apply(t, file, w.size)
		}
	}
}
