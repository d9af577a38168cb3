package systemd

// history is what a unit was loaded with, oldest first. The last is what is loaded now.
type history []loading

// loading is one content.
type loading struct {
	Hash string `json:"hash"`
	// Since is when systemd had read it, by CLOCK_MONOTONIC in microseconds: never too early. 0 as long as that is not
	// known.
	Since uint64 `json:"since"`
}

// replace adds a content, whose time is told later. One that was not read before it was replaced is forgotten, and so is
// what cannot run any more, which is all of it when the unit is at rest.
func (h history) replace(hash string, atRest bool, started uint64) history {
	next := history{}
	if !atRest {
		for i, l := range h {
			later := i+1 < len(h) && h[i+1].Since != 0 && h[i+1].Since <= started
			if l.Since != 0 && !later {
				next = append(next, l)
			}
		}
	}
	return append(next, loading{Hash: hash})
}

// read notes that systemd has read the last content.
func (h history) read(now uint64) history {
	next := append(history{}, h...)
	if n := len(next); n > 0 && next[n-1].Since == 0 {
		next[n-1].Since = now
	}
	return next
}

// running is the hash of what a unit was started with that was started at a time.
func (h history) running(started uint64) string {
	hash := ""
	for i, l := range h {
		if i == 0 || l.Since != 0 && l.Since <= started {
			hash = l.Hash
		}
	}
	return hash
}
