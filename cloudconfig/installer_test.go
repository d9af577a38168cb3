package cloudconfig_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// program is what hosts of these tests fetch.
const program = "#!/bin/sh\necho installed\n"

// installation is a host on which the generated installer runs.
type installation struct {
	shell  []string // what runs it
	path   string   // all programs that it finds
	script string
	target string
	pauses string // file with a line for each pause
}

// newInstallation makes a host that fetches from urls, with nothing but the tools named and what every host has.
func newInstallation(t *testing.T, shell []string, tools []string, urls ...string) installation {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" && runtime.GOARCH != "arm64" {
		t.Skip("the downloads of this test are for Linux on amd64 and arm64")
	}
	dir := t.TempDir()
	i := installation{shell: shell, path: filepath.Join(dir, "bin"), target: filepath.Join(dir, "opt", "bin", "musterd")}
	i.pauses = filepath.Join(dir, "pauses")
	if err := os.Mkdir(i.path, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tool := range append(tools, "uname", "mkdir", "rm", "mv", "chmod", "sync") {
		found, err := exec.LookPath(tool)
		if err != nil {
			t.Skipf("%s is not installed", tool)
		}
		if tool == "python3" { // often a script that looks for it
			out, err := exec.CommandContext(t.Context(), found, "-c", "import sys; print(sys.executable)").Output()
			if err != nil {
				t.Skipf("python3 does not work: %v", err)
			}
			found = strings.TrimSpace(string(out))
		}
		// Not a link: python looks for its library beside itself.
		if err := os.WriteFile(filepath.Join(i.path, tool), []byte("#!/bin/sh\nexec "+found+" \"$@\"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A pause is noted and not waited for.
	if err := os.WriteFile(filepath.Join(i.path, "sleep"), []byte("#!/bin/sh\necho \"$1\" >>"+i.pauses+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(program))
	b := firstBoot()
	b.Musterd = downloads(hex.EncodeToString(sum[:]), urls...)
	doc, err := b.Document()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range doc.WriteFiles {
		if f.Path == "/etc/muster/install-musterd" && f.Permissions == "0755" {
			i.script = f.Content
		}
	}
	return i
}

func (i installation) run(t *testing.T) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), i.shell[0], i.shell[1:]...)
	cmd.Stdin, cmd.Env = strings.NewReader(i.script), []string{"PATH=" + i.path, "MUSTERD_PATH=" + i.target, "no_proxy=*", "HOME=/"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// installed checks that the program is there, whole and alone.
func (i installation) installed(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), i.target).Output(); err != nil || string(out) != "installed\n" {
		t.Errorf("%s, %v", out, err)
	}
	if there, err := os.ReadDir(filepath.Dir(i.target)); err != nil || len(there) != 1 {
		t.Errorf("there are %v, %v", there, err)
	}
}

// mirrors serves /good, what is forged, what is cut short, and what comes only at the third attempt.
func mirrors(t *testing.T) *httptest.Server {
	t.Helper()
	var asked atomic.Int32
	mux := http.NewServeMux()
	mux.HandleFunc("/forged", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "#!/bin/sh\ntouch /tmp/forged\n") })
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, program[:9])
	})
	mux.HandleFunc("/late", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, program)
	})
	mux.HandleFunc("/good", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, program) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// TestInstaller runs the generated script with every shell and every means to fetch that hosts have, against mirrors of
// which the first ones are broken.
func TestInstaller(t *testing.T) {
	server := mirrors(t)
	for name, shell := range map[string][]string{"dash": {"dash"}, "bash": {"bash", "--posix"}, "busybox": {"busybox", "sh"}} {
		for how, tools := range map[string][]string{
			"curl": {"curl", "sha256sum"}, "wget": {"wget", "sha256sum"}, "busybox": {"busybox"}, "python": {"python3", "sha256sum"},
		} {
			t.Run(name+" with "+how, func(t *testing.T) {
				if _, err := exec.LookPath(shell[0]); err != nil {
					t.Skipf("%s is not installed", shell[0])
				}
				i := newInstallation(t, shell, tools, server.URL+"/none", server.URL+"/forged", server.URL+"/short", server.URL+"/good")
				out, err := i.run(t)
				if err != nil || !strings.Contains(out, server.URL+"/forged is not the musterd with SHA-256") {
					t.Fatalf("%v\n%s", err, out)
				}
				i.installed(t)
			})
		}
	}
}

// TestInstallerTriesAgain meets a server that is not ready at first, and one that never is.
func TestInstallerTriesAgain(t *testing.T) {
	server := mirrors(t)
	i := newInstallation(t, []string{"sh"}, []string{"curl", "sha256sum"}, server.URL+"/late")
	if out, err := i.run(t); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	i.installed(t)
	if pauses, err := os.ReadFile(i.pauses); err != nil || string(pauses) != "1\n2\n" {
		t.Errorf("it paused for %q, %v", pauses, err)
	}
	server.Close()
	// The next boot needs no server.
	if out, err := i.run(t); err != nil || out != "" {
		t.Errorf("the second run fetches: %v\n%s", err, out)
	}
	if err := os.Remove(i.target); err != nil {
		t.Fatal(err)
	}
	out, err := i.run(t)
	if err == nil || !strings.Contains(out, "no musterd could be fetched") {
		t.Errorf("without a server: %v\n%s", err, out)
	}
	if pauses, err := os.ReadFile(i.pauses); err != nil || string(pauses) != "1\n2\n1\n2\n4\n8\n16\n32\n" {
		t.Errorf("it paused for %q, %v", pauses, err)
	}
	if left, err := os.ReadDir(filepath.Dir(i.target)); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestInstallerAfterPowerCut finds half a file of an earlier boot.
func TestInstallerAfterPowerCut(t *testing.T) {
	i := newInstallation(t, []string{"sh"}, []string{"curl", "sha256sum"}, mirrors(t).URL+"/good")
	if err := os.MkdirAll(filepath.Dir(i.target), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(i.target+".new", []byte(strings.Repeat("x", 5000)), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := i.run(t); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	i.installed(t)
}

// TestInstallerCannotWrite says so: on a system whose /opt is read-only nothing else would help.
func TestInstallerCannotWrite(t *testing.T) {
	i := newInstallation(t, []string{"sh"}, []string{"curl", "sha256sum"}, mirrors(t).URL+"/good")
	opt := filepath.Dir(filepath.Dir(i.target))
	if err := os.WriteFile(opt, nil, 0o644); err != nil { // a file in the way stops root too
		t.Fatal(err)
	}
	out, err := i.run(t)
	want := "cannot write " + filepath.Dir(i.target) + ": mount something there, or use an image that has musterd"
	if err == nil || !strings.Contains(out, want) {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := os.Stat(i.pauses); !os.IsNotExist(err) {
		t.Errorf("it tries again: %v", err)
	}
}

// TestInstallerBoundsDownload stops what never ends before it fills the disk.
func TestInstallerBoundsDownload(t *testing.T) {
	block := []byte(strings.Repeat("x", 1<<20))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	i := newInstallation(t, []string{"sh"}, []string{"curl", "sha256sum"}, server.URL)
	i.script = strings.Replace(i.script, "ulimit -f 1048576", "ulimit -f 2048", 1) // one MiB will do
	i.script = strings.Replace(i.script, "1 2 4 8 16 32", "1", 1)
	out, err := i.run(t)
	if err == nil || !strings.Contains(out, "no musterd could be fetched") {
		t.Errorf("%v\n%s", err, out)
	}
}
