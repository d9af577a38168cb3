package join

import "testing"

func TestKeysSettings(t *testing.T) {
	for _, tt := range []struct {
		keys Keys
		ok   bool
	}{
		{Keys{}, true},
		{Keys{Bridge: "podman0"}, true},
		{Keys{Bridge: "podman0", Grants: []string{"/", "/services/web"}}, true},
		{Keys{Grants: []string{"/services"}}, false},
		{Keys{Bridge: "a name"}, false},
		{Keys{Bridge: "../../podman0"}, false},
		{Keys{Bridge: "0123456789abcdef"}, false},
		{Keys{Bridge: "podman0", Grants: []string{"services"}}, false},
		{Keys{Bridge: "podman0", Grants: []string{"/services/"}}, false},
		{Keys{Bridge: "podman0", Grants: []string{"/a/../b"}}, false},
	} {
		if err := tt.keys.Validate(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.keys, err)
		}
	}
}
