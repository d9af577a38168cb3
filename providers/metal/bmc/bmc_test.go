package bmc

import (
	"encoding/hex"
	"errors"
	"net"
	"testing"

	"github.com/musterhq/muster/providers"
)

func TestWake(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	if err := (Wake{MAC: mac, Broadcast: conn.LocalAddr().String()}).PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 200)
	n, err := conn.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	want := "ffffffffffff"
	for range 16 {
		want += "525400000001"
	}
	if got := hex.EncodeToString(buffer[:n]); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWakeRefuses(t *testing.T) {
	if err := (Wake{MAC: net.HardwareAddr{1}}).PowerOn(t.Context()); !errors.Is(err, providers.ErrInvalid) {
		t.Error(err)
	}
	mac := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	if err := (Wake{MAC: mac, Broadcast: "nowhere"}).PowerOn(t.Context()); !errors.Is(err, providers.ErrUnavailable) {
		t.Error(err)
	}
}

func TestManual(t *testing.T) {
	var told string
	if err := (Manual{Machine: "rack1-u7", Tell: func(words string) { told = words }}).PowerOn(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := "power on machine rack1-u7, and have it boot from the network"; told != want {
		t.Errorf("%q, want %q", told, want)
	}
}

var (
	_ Starter = Wake{}
	_ Starter = Manual{}
)
