package netboot

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Task is what a booted system is told on the kernel's command line. Nothing in it is secret.
type Task struct {
	Action  Action
	Attempt int
	Boot    string // number of this boot, which a machine with an attempt shows once it runs: 32 lower-case hexadecimal digits
	MAC     string // of the interface that it booted from
	Server  string // https URL that facts and reports go to
	CA      string // SHA-256 of the certificate that the server's must come from: 64 lower-case hexadecimal digits
	Image   string // URL of the disk image, or of the root file system for ActionMemory
	SHA256  string // of the image, like CA
	Disk    string // selector of the disk to install to or to wipe; empty for ActionWipe means all
}

// keys are the task's parameters in the order in which they are written.
var keys = []struct {
	name  string
	field func(*Task) *string
}{
	{"muster.action", func(t *Task) *string { return (*string)(&t.Action) }},
	{"muster.boot", func(t *Task) *string { return &t.Boot }},
	{"muster.mac", func(t *Task) *string { return &t.MAC }},
	{"muster.server", func(t *Task) *string { return &t.Server }},
	{"muster.ca", func(t *Task) *string { return &t.CA }},
	{"muster.image", func(t *Task) *string { return &t.Image }},
	{"muster.sha256", func(t *Task) *string { return &t.SHA256 }},
	{"muster.disk", func(t *Task) *string { return &t.Disk }},
}

const attemptKey = "muster.attempt"

// maxCommandLine is the length that Linux takes on x86, COMMAND_LINE_SIZE in arch/x86/include/asm/setup.h, less the
// final zero. Other architectures of ours take as many.
const maxCommandLine = 2047

// CommandLine returns the task as parameters of a kernel, after the arguments given. Values are escaped as in URLs where
// a kernel or iPXE would read them otherwise.
func (t Task) CommandLine(arguments ...string) (string, error) {
	if err := t.validate(); err != nil {
		return "", err
	}
	var words []string
	for _, argument := range arguments {
		if argument == "" || escape(argument) != argument {
			return "", fmt.Errorf("cannot pass %q to a kernel: use letters, digits and ._-:/@,+=&?~* only", argument)
		}
		if strings.HasPrefix(argument, "muster.") {
			return "", fmt.Errorf("cannot pass %q to a kernel: parameters that begin with muster. are the boot service's", argument)
		}
		words = append(words, argument)
	}
	if t.Attempt > 0 {
		words = append(words, attemptKey+"="+strconv.Itoa(t.Attempt))
	}
	for _, key := range keys {
		if value := *key.field(&t); value != "" {
			words = append(words, key.name+"="+escape(value))
		}
	}
	line := strings.Join(words, " ")
	if len(line) > maxCommandLine {
		return "", fmt.Errorf("cannot pass %d bytes to a kernel, which takes %d: shorten the arguments", len(line), maxCommandLine)
	}
	return line, nil
}

// ParseTask reads a task from a kernel's command line, such as /proc/cmdline. Parameters of others are passed over, and of
// a parameter that is there twice the last counts, as with the kernel.
func ParseTask(line string) (Task, error) {
	var t Task
	for _, word := range strings.Fields(line) {
		name, value, found := strings.Cut(word, "=")
		if !found || !strings.HasPrefix(name, "muster.") {
			continue
		}
		value, err := url.PathUnescape(value)
		if err != nil {
			return Task{}, fmt.Errorf("cannot read %s of the kernel's command line: %w", name, err)
		}
		if name == attemptKey {
			if t.Attempt, err = strconv.Atoi(value); err != nil {
				return Task{}, fmt.Errorf("cannot read %s of the kernel's command line: %w", name, err)
			}
		}
		for _, key := range keys {
			if key.name == name {
				*key.field(&t) = value
			}
		}
	}
	return t, t.validate()
}

func (t Task) validate() error {
	switch t.Action {
	case ActionDiscover, ActionRescue:
	case ActionInstall, ActionMemory, ActionWipe:
		if t.Attempt < 1 {
			return fmt.Errorf("cannot %s: the attempt's number is missing", t.Action)
		}
		if !isHex(t.Boot, 16) {
			return fmt.Errorf("cannot %s: the boot's number is not of 32 hexadecimal digits", t.Action)
		}
	default:
		return fmt.Errorf("cannot tell a booted system to do %q", t.Action)
	}
	server, err := url.Parse(t.Server)
	if err != nil || server.Scheme != "https" || server.Host == "" || server.User != nil {
		return fmt.Errorf("cannot report to %q: it is to be an https URL without a password", t.Server)
	}
	if !isSHA256(t.CA) {
		return fmt.Errorf("cannot trust %q: the CA is named by the SHA-256 of its certificate", t.CA)
	}
	if t.Action == ActionInstall || t.Action == ActionMemory {
		if _, err := fetchURL(t.Image); err != nil {
			return err
		}
		if !isSHA256(t.SHA256) {
			return fmt.Errorf("cannot verify an image by %q: that is no SHA-256", t.SHA256)
		}
	}
	return nil
}

func isSHA256(sum string) bool { return isHex(sum, 32) }

// isHex tells whether a text is so many bytes in lower-case hexadecimal digits.
func isHex(text string, size int) bool {
	bytes, err := hex.DecodeString(text)
	return err == nil && len(bytes) == size && strings.ToLower(text) == text
}

// escape returns a value with every byte escaped that is not harmless in a kernel's command line and in a script of iPXE:
// no space, quote, dollar, brace, per cent, or anything outside of ASCII.
func escape(value string) string {
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
			strings.IndexByte("._-:/@,+=&?~*", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
