// Package image holds the tests of the host image's parts that need no build.
package image

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/musterhq/muster/cloudconfig/firstboot"
)

func TestScriptsParse(t *testing.T) {
	for script, shell := range map[string]string{
		"build": "bash", "initrd/init": "sh", "installer/init": "sh", "installer/lease": "sh",
		"tree/usr/lib/muster/resolv-conf": "sh", "tree/usr/lib/muster/await-good": "sh",
	} {
		if out, err := exec.Command(shell, "-n", script).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
}

// TestFirstBootUnit holds the image's unit to the one that musterd expects.
func TestFirstBootUnit(t *testing.T) {
	unit, err := os.ReadFile("tree/usr/lib/systemd/system/" + firstboot.UnitName)
	if err != nil {
		t.Fatal(err)
	}
	if want := firstboot.UnitFile("/usr/bin/musterd"); string(unit) != want {
		t.Errorf("got\n%s\nwant\n%s", unit, want)
	}
}

// TestOwnUnitsStart looks for muster's own units among those that start at boot, or for what starts them later.
func TestOwnUnitsStart(t *testing.T) {
	enabled, err := os.ReadFile("units-enabled")
	if err != nil {
		t.Fatal(err)
	}
	units := strings.Fields(string(enabled))
	own, _ := filepath.Glob("tree/usr/lib/systemd/system/*.service")
	for _, path := range own {
		name := filepath.Base(path)
		if !slices.Contains(units, name) && !slices.Contains(units, strings.TrimSuffix(name, ".service")+".path") {
			t.Errorf("%s is in the image and never starts", name)
		}
	}
}
