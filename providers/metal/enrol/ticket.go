package enrol

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/musterhq/muster/providers/metal/netboot"
)

var (
	// ErrUnknown is wrapped when no machine's latest script carried a boot's number.
	ErrUnknown = errors.New("unknown boot")
	// ErrForeign is wrapped when a boot is another's, or nobody has claimed it yet.
	ErrForeign = errors.New("boot of another")
	// ErrContested is wrapped when two have claimed one boot. It stays so until the machine's next boot.
	ErrContested = errors.New("two machines claim the same boot")
	// ErrHanded is wrapped when user-data was handed over already.
	ErrHanded = errors.New("user-data is handed over once")
	// ErrClosed is wrapped when the operator has opened no window for a machine.
	ErrClosed = errors.New("no window is open for this machine")
)

// Ticket is what is remembered of a boot. The machine's next one replaces it. Its methods return what to remember from then
// on; that is saved before an answer is sent, with an error too.
type Ticket struct {
	Boot      string         `json:"boot"` // number that the script carried: 32 lower-case hexadecimal digits
	MAC       string         `json:"mac"`  // of the machine that the script was for, as in netboot.Request
	Action    netboot.Action `json:"action"`
	Attempt   int            `json:"attempt"`
	Holder    string         `json:"holder,omitempty"` // SHA-256 of the public key that claimed it, in hexadecimal
	Contested bool           `json:"contested,omitempty"`
	Handed    bool           `json:"handed,omitempty"` // the user-data is handed over
}

// NewTicket returns the ticket of a boot that follows from a decision. Decisions whose Attempt is 0 need none.
func NewTicket(mac string, d netboot.Decision) Ticket {
	var number [16]byte
	_, _ = rand.Read(number[:]) // never fails, see its documentation
	return Ticket{Boot: hex.EncodeToString(number[:]), MAC: mac, Action: d.Action, Attempt: d.Attempt}
}

// Claim makes holder the boot's, unless another is.
func (t Ticket) Claim(holder string) (Ticket, error) {
	switch t.Holder {
	case "":
		t.Holder = holder
	case holder:
	default:
		t.Contested = true
	}
	return t, t.Check(holder)
}

// Check is nil for the boot's holder.
func (t Ticket) Check(holder string) error {
	switch {
	case t.Contested:
		return fmt.Errorf("%w: boot the machine again, and look who else is on its network", ErrContested)
	case holder == "" || t.Holder != holder:
		return fmt.Errorf("%w: claim it first", ErrForeign)
	}
	return nil
}

// Hand notes that the user-data goes to holder now.
func (t Ticket) Hand(holder string) (Ticket, error) {
	switch err := t.Check(holder); {
	case err != nil:
		return t, err
	case t.Action != netboot.ActionInstall && t.Action != netboot.ActionMemory:
		return t, fmt.Errorf("%w: to %s takes no user-data", netboot.ErrRefused, t.Action)
	case t.Handed:
		return t, fmt.Errorf("%w: begin another attempt", ErrHanded)
	}
	t.Handed = true
	return t, nil
}

// End returns the event that the machine's word of the end is. reason is empty when all went well.
func (t Ticket) End(reason string) (netboot.Event, error) {
	if reason != "" {
		return netboot.Broken{Attempt: t.Attempt, Reason: reason}, nil
	}
	if t.Action != netboot.ActionWipe && !t.Handed {
		return nil, fmt.Errorf("%w: fetch the user-data before the end", netboot.ErrRefused)
	}
	return netboot.Finished{Attempt: t.Attempt}, nil
}
