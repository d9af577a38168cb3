package firstboot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig/firstboot"
)

func TestAccountsThatAreThere(t *testing.T) {
	root := imageRoot(t)
	put(t, root, "etc/passwd", image["etc/passwd"]+"debian:x:1000:1000::/home/debian:/bin/bash\n+::::::\n")
	put(t, root, "home/debian/.ssh/authorized_keys", "ssh-ed25519 OLD\nssh-ed25519 BOTH")
	if err := os.Chmod(filepath.Join(root, "etc/shadow"), 0o640); err != nil {
		t.Fatal(err)
	}
	o, _, _ := boots(root, `#cloud-config
users:
  - {name: debian, shell: /bin/other, groups: docker, lock_passwd: false, passwd: $6$new}
  - {name: old, uid: 1000}
ssh_authorized_keys: [ssh-ed25519 BOTH, ssh-ed25519 NEW]
`)
	err := firstboot.Run(t.Context(), o)
	if want := "users: cannot make the user old: the number 1000 is taken"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
	o, _, _ = boots(root, "#cloud-config\nusers: [{name: debian, shell: /bin/other, groups: docker, passwd: $6$new}]\nssh_authorized_keys: [ssh-ed25519 BOTH, ssh-ed25519 NEW]\n")
	if err := firstboot.Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"etc/passwd":                       "debian:x:1000:1000::/home/debian:/bin/bash\n+::::::\n",
		"etc/group":                        "docker:x:233:old,debian\n",
		"etc/shadow":                       "debian:$6$new:20000:0:99999:7:::\n",
		"home/debian/.ssh/authorized_keys": "ssh-ed25519 OLD\nssh-ed25519 BOTH\nssh-ed25519 NEW\n",
	} {
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || !strings.HasSuffix(string(text), want) {
			t.Errorf("%s: %v\n%s", path, err, text)
		}
	}
	if info, err := os.Stat(filepath.Join(root, "etc/shadow")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode of etc/shadow changed: %v, %v", info.Mode(), err)
	}
}

func TestKeysAreNotWrittenThroughALink(t *testing.T) {
	root := imageRoot(t)
	put(t, root, "etc/passwd", image["etc/passwd"]+"eve:x:1000:1000::/home/eve:/bin/bash\n")
	put(t, root, "root/.ssh/authorized_keys", "")
	if err := os.MkdirAll(filepath.Join(root, "home/eve"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../root/.ssh", filepath.Join(root, "home/eve/.ssh")); err != nil {
		t.Fatal(err)
	}
	o, _, _ := boots(root, "#cloud-config\nssh_authorized_keys: [ssh-ed25519 EVE]\n")
	err := firstboot.Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "/home/eve/.ssh is no directory") {
		t.Errorf("got %v", err)
	}
	if text, _ := os.ReadFile(filepath.Join(root, "root/.ssh/authorized_keys")); len(text) > 0 {
		t.Errorf("written: %s", text)
	}
}

// FuzzAccounts looks for panics on account files as broken images have them.
func FuzzAccounts(f *testing.F) {
	for _, name := range []string{"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"} {
		f.Add(image[name], image["etc/group"])
	}
	f.Add(":::::::\n::::::::::\n\x00\n", "a:b:c:d\nsudo:x:x:\n")
	f.Fuzz(func(t *testing.T, passwd, group string) {
		root := t.TempDir()
		put(t, root, "etc/passwd", passwd)
		put(t, root, "etc/shadow", passwd)
		put(t, root, "etc/group", group)
		put(t, root, "etc/gshadow", group)
		o, _, _ := boots(root, everyPart)
		_ = firstboot.Run(t.Context(), o)
	})
}
