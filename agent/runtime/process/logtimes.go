package process

import (
	"encoding/binary"
	"io/fs"
	"os"
	"sort"
	"time"
)

// When a log grew to which size, for its lines have no times of their own: records of 16 bytes, size and time in
// microseconds since 1970, big endian. While an agent is there that is known to a second.
const (
	timesFile    = "log.times"
	oldTimesFile = "log.1.times"

	timeRecord = 16
	// maxTimes is how many records there are before every other one is dropped.
	maxTimes = 16 << 10
)

// logTimes tells when what is in a log was written.
type logTimes struct {
	records []byte
	last    time.Time // of all that is not in the records
}

// readTimes reads what is known of a log. Without records all of it was written when it was written to last.
func readTimes(path, log string) logTimes {
	var t logTimes
	if info, err := os.Stat(log); err == nil {
		t.last = info.ModTime()
	}
	if records, err := os.ReadFile(path); err == nil {
		t.records = records[:len(records)-len(records)%timeRecord]
	}
	return t
}

// of is when the byte at an offset was written.
func (t logTimes) of(offset int64) time.Time {
	n := len(t.records) / timeRecord
	i := sort.Search(n, func(i int) bool { return int64(binary.BigEndian.Uint64(t.records[i*timeRecord:])) > offset })
	if i == n {
		return t.last
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(t.records[i*timeRecord+8:])))
}

// noteTime notes the size of the log and when it got it, if it is not noted yet. What fails costs only times.
func (u *unit) noteTime() {
	info, err := os.Stat(u.path(logFile))
	if err != nil || info.Size() == u.noted {
		return
	}
	u.noted = info.Size()
	if err := appendTime(u.path(timesFile), info); err != nil {
		u.log.Warn("cannot note when a log grew", "error", err)
	}
}

func appendTime(path string, log fs.FileInfo) error {
	record := binary.BigEndian.AppendUint64(nil, uint64(log.Size()))
	record = binary.BigEndian.AppendUint64(record, uint64(log.ModTime().UnixMicro()))
	info, err := os.Stat(path)
	if err == nil && (info.Size() >= maxTimes*timeRecord || info.Size()%timeRecord != 0) {
		if err := thinTimes(path); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(record)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// thinTimes drops every other record, and one that was not written to its end.
func thinTimes(path string) error {
	records, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var thin []byte
	for i := timeRecord; i+timeRecord <= len(records); i += 2 * timeRecord {
		thin = append(thin, records[i:i+timeRecord]...)
	}
	if err := os.WriteFile(path+".new", thin, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
