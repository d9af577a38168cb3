package netboot

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var (
	system = System{
		Kernel: "http://10.0.0.1/images/vmlinuz", Initrd: "http://10.0.0.1/images/initrd",
		Arguments: []string{"console=ttyS0", "quiet"},
	}
	task = Task{
		Boot:   strings.Repeat("5c", 16),
		Server: "https://10.0.0.1:8443", CA: strings.Repeat("ab", 32), Image: "http://10.0.0.1/images/host.img",
		SHA256: strings.Repeat("0f", 32), Disk: "model=Big Disk",
	}
)

func TestScript(t *testing.T) {
	for _, tt := range []struct {
		name     string
		decision Decision
		firmware Firmware
	}{
		{"discover", Decision{ActionDiscover, 0, "it failed: \"full\" && ${mac} || reboot ; x"}, UEFI},
		{"install", Decision{ActionInstall, 2, "attempt 2, boot 1 of 3"}, BIOS},
		{"memory", Decision{ActionMemory, 1, "it runs from memory"}, UEFI},
		{"rescue", Decision{ActionRescue, 0, "the operator asked for it"}, UEFI},
		{"wipe", Decision{ActionWipe, 3, "attempt 3, boot 1 of 3"}, UEFI},
		{"disk-bios", Decision{ActionLocalDisk, 0, "it is installed"}, BIOS},
		{"disk-uefi", Decision{ActionLocalDisk, 0, "it is installed"}, UEFI},
	} {
		t.Run(tt.name, func(t *testing.T) {
			script, err := Script(tt.decision, Request{MAC: "52:54:00:00:00:01", Firmware: tt.firmware}, system, task)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name+".ipxe", script)
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestScriptRefuses(t *testing.T) {
	install := Decision{ActionInstall, 1, "x"}
	for _, tt := range []struct {
		name string
		bend func(*Decision, *System, *Task)
		want string
	}{
		{"expansion", func(_ *Decision, s *System, _ *Task) { s.Kernel = "http://h/?${password}" }, "means something else to iPXE"},
		{"space", func(_ *Decision, s *System, _ *Task) { s.Initrd = "http://h/?a b" }, "means something else to iPXE"},
		{"file", func(_ *Decision, s *System, _ *Task) { s.Kernel = "file:///vmlinuz" }, "http or https URL"},
		{"password", func(_ *Decision, s *System, _ *Task) { s.Kernel = "http://a:b@h/k" }, "without a password"},
		{"argument", func(_ *Decision, s *System, _ *Task) { s.Arguments = []string{"a b"} }, "letters, digits"},
		{"our argument", func(_ *Decision, s *System, _ *Task) { s.Arguments = []string{"muster.action=wipe"} }, "boot service's"},
		{"plain server", func(_ *Decision, _ *System, t *Task) { t.Server = "http://10.0.0.1" }, "https URL"},
		{"no CA", func(_ *Decision, _ *System, t *Task) { t.CA = "" }, "SHA-256 of its certificate"},
		{"no sum", func(_ *Decision, _ *System, t *Task) { t.SHA256 = "" }, "no SHA-256"},
		{"no boot", func(_ *Decision, _ *System, t *Task) { t.Boot = "" }, "boot's number"},
		{"no attempt", func(d *Decision, _ *System, _ *Task) { d.Attempt = 0 }, "number is missing"},
		{"action", func(d *Decision, _ *System, _ *Task) { d.Action = "dance" }, "dance"},
		{"length", func(_ *Decision, s *System, _ *Task) { s.Arguments = []string{strings.Repeat("a", 2048)} }, "which takes 2047"},
	} {
		d, s, task := install, system, task
		tt.bend(&d, &s, &task)
		if script, err := Script(d, Request{}, s, task); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q\n%s", tt.name, err, tt.want, script)
		}
	}
}

func TestParseTaskSkipsOthers(t *testing.T) {
	got, err := ParseTask("BOOT_IMAGE=/vmlinuz quiet muster.action=dance muster.action=rescue muster.server=https://h muster.ca=" +
		task.CA + " muster.later=1 initrd=initrd")
	if want := (Task{Action: ActionRescue, Server: "https://h", CA: task.CA}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if _, err := ParseTask("muster.attempt=x"); err == nil {
		t.Error("an attempt that is no number passed")
	}
}

// FuzzTask: what is written is read back as it was, on one line of harmless characters; what is read is valid.
func FuzzTask(f *testing.F) {
	f.Add("serial=A B\"C${mac}", "quiet splash")
	f.Add("größe>1G\n", "muster.action=install muster.attempt=-1")
	f.Add("", "muster.disk=%zz")
	f.Fuzz(func(t *testing.T, disk, line string) {
		in := task
		in.Action, in.Attempt, in.MAC, in.Disk = ActionInstall, 7, disk, disk
		written, err := in.CommandLine()
		if err == nil {
			if strings.ContainsAny(written, "\"'\\$`{}|;\n\t") || strings.Count(written, " ") > len(keys) {
				t.Errorf("special characters in %q", written)
			}
			if out, err := ParseTask(written); err != nil || out != in {
				t.Errorf("wrote %+v, read %+v, %v", in, out, err)
			}
		}
		if read, err := ParseTask(line); err == nil {
			if again, err := read.CommandLine(); err == nil {
				if out, err := ParseTask(again); err != nil || out != read {
					t.Errorf("read %+v, then %+v, %v", read, out, err)
				}
			}
		}
	})
}
