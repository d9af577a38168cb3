package join

import (
	"fmt"
	"testing"
)

func TestFleetAddress(t *testing.T) {
	for listen, want := range map[string]string{
		":49153": "invalid IP 49153", "0.0.0.0:1": "0.0.0.0 1", "[::1]:65535": "::1 65535",
		"49153": "", ":0": "", ":65536": "", ":http": "", "localhost:49153": "", "": "",
	} {
		host, port, err := Fleet{Listen: listen}.Address()
		if got := fmt.Sprint(host, " ", port); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %s, %v", listen, got, err)
		}
	}
}
