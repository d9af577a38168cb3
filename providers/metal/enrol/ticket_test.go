package enrol

import (
	"errors"
	"testing"

	"github.com/musterhq/muster/providers/metal/netboot"
)

func TestTicket(t *testing.T) {
	install := Ticket{Boot: "b", Action: netboot.ActionInstall, Attempt: 2}
	with := func(edit func(*Ticket)) Ticket { t := install; edit(&t); return t }
	held := with(func(t *Ticket) { t.Holder = "a" })
	handed := with(func(t *Ticket) { t.Holder, t.Handed = "a", true })
	contested := with(func(t *Ticket) { t.Holder, t.Contested = "a", true })
	wipe := with(func(t *Ticket) { t.Holder, t.Action = "a", netboot.ActionWipe })
	claim := func(holder string) func(Ticket) (Ticket, error) {
		return func(t Ticket) (Ticket, error) { return t.Claim(holder) }
	}
	hand := func(holder string) func(Ticket) (Ticket, error) {
		return func(t Ticket) (Ticket, error) { return t.Hand(holder) }
	}
	for _, tt := range []struct {
		name string
		from Ticket
		do   func(Ticket) (Ticket, error)
		want Ticket
		err  error
	}{
		{"first claim", install, claim("a"), held, nil},
		{"claim again", held, claim("a"), held, nil},
		{"claim of another", held, claim("b"), contested, ErrContested},
		{"claim after a contest", contested, claim("a"), contested, ErrContested},
		{"claim of nobody", install, claim(""), install, ErrForeign},
		{"hand", held, hand("a"), handed, nil},
		{"hand twice", handed, hand("a"), handed, ErrHanded},
		{"hand to another", held, hand("b"), held, ErrForeign},
		{"hand to nobody", install, hand(""), install, ErrForeign},
		{"hand when contested", contested, hand("a"), contested, ErrContested},
		{"hand to wipe", wipe, hand("a"), wipe, netboot.ErrRefused},
	} {
		if got, err := tt.do(tt.from); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s: %+v, %v, want %+v, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}

func TestTicketEnd(t *testing.T) {
	for _, tt := range []struct {
		ticket Ticket
		reason string
		want   netboot.Event
	}{
		{Ticket{Action: netboot.ActionInstall, Attempt: 3, Handed: true}, "", netboot.Finished{Attempt: 3}},
		{Ticket{Action: netboot.ActionWipe, Attempt: 3}, "", netboot.Finished{Attempt: 3}},
		{Ticket{Action: netboot.ActionInstall, Attempt: 3}, "full", netboot.Broken{Attempt: 3, Reason: "full"}},
	} {
		if got, err := tt.ticket.End(tt.reason); err != nil || got != tt.want {
			t.Errorf("%+v: %+v, %v", tt.ticket, got, err)
		}
	}
	if _, err := (Ticket{Action: netboot.ActionInstall, Attempt: 3}).End(""); !errors.Is(err, netboot.ErrRefused) {
		t.Errorf("a host that cannot join is installed: %v", err)
	}
}

func TestNewTicket(t *testing.T) {
	d := netboot.Decision{Action: netboot.ActionInstall, Attempt: 1}
	a, b := NewTicket("52:54:00:00:00:01", d), NewTicket("52:54:00:00:00:01", d)
	if a.Boot == b.Boot || len(a.Boot) != 32 || a.Action != d.Action || a.Attempt != 1 || a.Holder != "" {
		t.Errorf("%+v, %+v", a, b)
	}
}
