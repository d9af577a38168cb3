package omaha

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
)

// AppID is the application that Flatcar's update_engine asks for, as CoreOS named it. It comes with braces or without.
const AppID = "e96281a6-d1af-4bde-9a0a-97b76e56dc57"

// protocol is the only version that is spoken.
const protocol = "3.0"

// Bounds of a request. update_engine's have less than 2 KiB, one application and one event.
const (
	MaxRequest = 64 << 10 // bytes
	maxApps    = 8
	maxEvents  = 16  // of an application
	maxText    = 200 // bytes of an attribute that is used
)

// Request is what update_engine sends, as far as it is used.
type Request struct {
	XMLName  xml.Name `xml:"request"`
	Protocol string   `xml:"protocol,attr"`
	Apps     []App    `xml:"app"`
}

// App is an application that a machine asks for.
type App struct {
	ID        string    `xml:"appid,attr"`
	Version   string    `xml:"version,attr"` // that it runs
	Track     string    `xml:"track,attr"`   // GROUP of /etc/flatcar/update.conf
	MachineID string    `xml:"machineid,attr"`
	BootID    string    `xml:"bootid,attr"`
	OEM       string    `xml:"oem,attr"`
	Board     string    `xml:"board,attr"` // amd64-usr
	Ping      *struct{} `xml:"ping"`
	Check     *struct{} `xml:"updatecheck"`
	Events    []Event   `xml:"event"`
}

// Event is what became of a release on a machine.
type Event struct {
	Type   int `xml:"eventtype,attr"`
	Result int `xml:"eventresult,attr"`
	Code   int `xml:"errorcode,attr"`
}

// The types of events that update_engine sends, and their results.
const (
	EventComplete         = 3
	EventDownloadStarted  = 13
	EventDownloadFinished = 14
	EventInstalled        = 800

	ResultError   = 0
	ResultSuccess = 1
	ResultReboot  = 2 // of EventComplete: the machine has rebooted since
)

// ErrRequest is a request that is none.
var ErrRequest = errors.New("it is no request of Omaha 3.0")

// ReadRequest reads a request and refuses what is beyond its bounds.
func ReadRequest(from io.Reader) (Request, error) {
	limited := &io.LimitedReader{R: from, N: MaxRequest + 1}
	var r Request
	err := xml.NewDecoder(limited).Decode(&r)
	switch {
	case limited.N <= 0:
		return Request{}, fmt.Errorf("%w: it has more than %d bytes", ErrRequest, MaxRequest)
	case err != nil:
		return Request{}, fmt.Errorf("%w: %w", ErrRequest, err)
	case r.Protocol != protocol:
		return Request{}, fmt.Errorf("%w: its protocol is %.20q", ErrRequest, r.Protocol)
	case len(r.Apps) == 0 || len(r.Apps) > maxApps:
		return Request{}, fmt.Errorf("%w: it has %d applications; 1 to %d are answered", ErrRequest, len(r.Apps), maxApps)
	}
	for _, a := range r.Apps {
		if len(a.Events) > maxEvents {
			return Request{}, fmt.Errorf("%w: it has %d events; %d are read", ErrRequest, len(a.Events), maxEvents)
		}
		for _, text := range []string{a.ID, a.Version, a.Track, a.MachineID, a.BootID, a.OEM, a.Board} {
			if len(text) > maxText {
				return Request{}, fmt.Errorf("%w: an attribute has more than %d bytes", ErrRequest, maxText)
			}
		}
	}
	return r, nil
}

// Response is what update_engine is answered.
type Response struct {
	XMLName  xml.Name    `xml:"response"`
	Protocol string      `xml:"protocol,attr"`
	Server   string      `xml:"server,attr"`
	DayStart dayStart    `xml:"daystart"`
	Apps     []AppAnswer `xml:"app"`
}

type dayStart struct {
	Seconds int `xml:"elapsed_seconds,attr"`
}

// AppAnswer is the answer for an application.
type AppAnswer struct {
	ID     string       `xml:"appid,attr"`
	Status string       `xml:"status,attr"` // ok, or error-unknownApplication
	Check  *checkAnswer `xml:"updatecheck"`
	Ping   *ok          `xml:"ping"`
	Events []ok         `xml:"event"`
}

type ok struct {
	Status string `xml:"status,attr"`
}

type checkAnswer struct {
	Status   string    `xml:"status,attr"` // ok, noupdate, or error-internal
	URLs     *urls     `xml:"urls"`
	Manifest *manifest `xml:"manifest"`
}

type urls struct {
	URL []codebase `xml:"url"`
}

type codebase struct {
	Base string `xml:"codebase,attr"`
}

type manifest struct {
	Version  string           `xml:"version,attr"`
	Packages []packageElement `xml:"packages>package"`
	Actions  []action         `xml:"actions>action"`
}

type packageElement struct {
	Name     string `xml:"name,attr"`
	SHA1     string `xml:"hash,attr"` // base64
	Size     int64  `xml:"size,attr"`
	Required bool   `xml:"required,attr"`
}

// action is where update_engine looks for the SHA-256, in base64.
type action struct {
	Event          string `xml:"event,attr"`
	SHA256         string `xml:"sha256,attr"`
	DisplayVersion string `xml:"DisplayVersion,attr"`
	NeedsAdmin     bool   `xml:"needsadmin,attr"`
	Delta          bool   `xml:"IsDeltaPayload,attr"`
	NoBackoff      bool   `xml:"DisablePayloadBackoff,attr"`
}

// Write writes a response as a document.
func (r Response) Write(to io.Writer) error {
	if _, err := io.WriteString(to, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(to)
	e.Indent("", " ")
	return e.Encode(r)
}
