package journal

import "bytes"

// maxLine is the longest line that is handed on whole, in bytes: as journald has it (journald.conf(5), LineMax=).
const maxLine = 48 << 10

// Lines is a writer that hands complete lines on, those of one Write at once and with their newlines. They are valid during
// the call only. Lines longer than Max are cut up; only their last part has a newline.
type Lines struct {
	Max  int // 48 KiB when 0
	Each func(lines [][]byte) error

	rest []byte // of a line whose end is still to come
}

// Write implements io.Writer. It fails with the error of Each.
func (l *Lines) Write(p []byte) (int, error) {
	limit := l.Max
	if limit == 0 {
		limit = maxLine
	}
	var lines [][]byte
	data := p
	if len(l.rest) > 0 {
		data = append(l.rest, p...)
		l.rest = nil
	}
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		switch {
		case end >= 0 && end <= limit:
			lines, data = append(lines, data[:end+1]), data[end+1:]
			continue
		case len(data) > limit:
			lines, data = append(lines, data[:limit]), data[limit:]
			continue
		}
		l.rest = bytes.Clone(data)
		data = nil
	}
	if len(lines) == 0 {
		return len(p), nil
	}
	if err := l.Each(lines); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Pending is how many bytes of a line were written whose end is still to come.
func (l *Lines) Pending() int { return len(l.rest) }

// End hands on what is left of a last line without a newline.
func (l *Lines) End() error {
	rest := l.rest
	if l.rest = nil; len(rest) == 0 {
		return nil
	}
	return l.Each([][]byte{rest})
}
