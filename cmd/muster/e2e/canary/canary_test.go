package canary_test

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"go.yaml.in/yaml/v3"

	"github.com/musterhq/muster/cmd/muster/e2e/canary"
)

// sentence has a secret in the middle of other text, so that no encoding can rely on where it begins.
func sentence(value string) string { return "login as root, " + value + " it is" }

// encodings are the leaks to be found, by how they write a text that has the secret in it.
var encodings = map[string]func(string) string{
	"plain":          func(s string) string { return s },
	"JSON":           func(s string) string { return string(must(json.Marshal(s))) },
	"JSON in JSON":   func(s string) string { return string(must(json.Marshal(string(must(json.Marshal(s)))))) },
	"Go":             strconv.Quote,
	"Go in ASCII":    strconv.QuoteToASCII,
	"bytes, as %x":   func(s string) string { return fmt.Sprintf("%x", s) },
	"bytes, as %X":   func(s string) string { return fmt.Sprintf("%X", s) },
	"YAML":           func(s string) string { return string(must(yaml.Marshal(map[string]string{"content": s}))) },
	"XML":            func(s string) string { var b bytes.Buffer; _ = xml.EscapeText(&b, []byte(s)); return b.String() },
	"a URL's query":  url.QueryEscape,
	"a URL's path":   url.PathEscape,
	"a URL in lower": func(s string) string { return strings.ToLower(url.QueryEscape(s)) },
	"slog": func(s string) string {
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "s", s)
		return b.String()
	},
	"hexadecimal":    func(s string) string { return hex.EncodeToString([]byte(s)) },
	"a hex dump":     func(s string) string { return wrap(hex.EncodeToString([]byte(s)), 32, "\n") },
	"base64":         func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64, 1 on":   func(s string) string { return base64.StdEncoding.EncodeToString([]byte("x" + s)) },
	"base64, 2 on":   func(s string) string { return base64.StdEncoding.EncodeToString([]byte("xy" + s)) },
	"base64 of URLs": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
	"MIME":           func(s string) string { return wrap(base64.StdEncoding.EncodeToString([]byte(s)), 20, "\r\n") },
	"base64 in JSON": func(s string) string { return wrap(base64.StdEncoding.EncodeToString([]byte(s)), 20, `\n`) },
	"base64 twice": func(s string) string {
		return base64.StdEncoding.EncodeToString([]byte("a" + base64.StdEncoding.EncodeToString([]byte(s))))
	},
	"gzip":           zipped,
	"gzip in a file": func(s string) string { return "header\x00" + zipped(s) + "trailer" },
	"gzip cut short": func(s string) string { z := zipped(s + strings.Repeat("x", 4096)); return z[:len(z)-10] },
	"gzip in base64": func(s string) string { return "content: " + base64.StdEncoding.EncodeToString([]byte(zipped(s))) },
	"gzip, indented": func(s string) string {
		return "a: |\n  " + wrap(base64.StdEncoding.EncodeToString([]byte(zipped(s))), 30, "\n  ")
	},
	"gzip twice":       func(s string) string { return zipped(zipped(s)) },
	"base64 in gzip":   func(s string) string { return zipped(base64.StdEncoding.EncodeToString([]byte(s))) },
	"gzip, glued":      func(s string) string { return "payload/" + base64.StdEncoding.EncodeToString([]byte(zipped(s))) },
	"far into a file":  func(s string) string { return strings.Repeat("\x00", 9<<20) + s },
	"across windows":   func(s string) string { return strings.Repeat("x y ", 1<<20-5) + s },
	"only its end":     func(s string) string { i := strings.Index(s, " it is"); return s[i-12:] },
	"only its head":    func(s string) string { return "token " + s[15:27] + "..." },
	"an environment":   func(s string) string { return "A=1\x00TOKEN=" + s + "\x00B=2\x00" },
	"a file of UTF-8":  func(s string) string { return "\ufeff" + s },
	"a line of fields": func(s string) string { return fmt.Sprintf("%q %v", []string{s}, map[string]string{"a": s}) },
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, s)
	_ = w.Close()
	return b.String()
}

func wrap(s string, width int, end string) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + end)
		s = s[width:]
	}
	return b.String() + s
}

// TestEveryEncodingIsFound plants each leak, and looks whether the secret is found, and nothing else.
func TestEveryEncodingIsFound(t *testing.T) {
	for name, encode := range encodings {
		t.Run(name, func(t *testing.T) {
			var set canary.Set
			set.Plant("another")
			plain, awkward := set.Plant("plain"), set.PlantAwkward("awkward")
			set.PlantDigits("digits")
			for secret, value := range map[string]string{"plain": plain, "awkward": awkward} {
				hits, err := set.Scan("here", iotest.HalfReader(strings.NewReader(encode(sentence(value)))))
				if err != nil || len(hits) == 0 {
					t.Fatalf("%s is not found: %v", secret, err)
				}
				for _, h := range hits {
					if h.Secret != secret || h.Place != "here" || h.Private {
						t.Errorf("%s is found as %+v", secret, h)
					}
					if said := fmt.Sprintf("%v %+v %#v", h, h, &set); strings.Contains(said, value[:8]) {
						t.Errorf("the hit shows the secret: %s", said)
					}
				}
			}
		})
	}
}

// TestWholeFormsAreFound looks for a secret that has no ends of its own, so that each form is found by itself.
func TestWholeFormsAreFound(t *testing.T) {
	byEndsAlone := []string{"JSON in JSON", "YAML", "slog", "only its end", "only its head"} // and escapes of escapes
	const value = "\"'<&>\\ \té+/%{$:"
	for name, encode := range encodings {
		if slices.Contains(byEndsAlone, name) {
			continue
		}
		var set canary.Set
		if err := set.Add("short", value); err != nil {
			t.Fatal(err)
		}
		hits, err := set.Scan("here", strings.NewReader(encode(sentence(value))))
		if err != nil || len(hits) == 0 {
			t.Errorf("%s: not found, %v", name, err)
		}
	}
}

func TestKeysAreFoundInEveryForm(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{
		"P-256": must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), "RSA": must(rsa.GenerateKey(rand.Reader, 2048)), "Ed25519": edwards,
	}
	for name, key := range keys {
		der := must(x509.MarshalPKCS8PrivateKey(key))
		text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
		var set canary.Set
		if err := set.AddKey(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		for how, data := range map[string]string{
			"PEM": text, "DER": string(der), "JSON": string(must(json.Marshal(text))), "hexadecimal": hex.EncodeToString(der),
			"YAML":   strings.ReplaceAll(text, "\n", "\n      "),
			"gz+b64": base64.StdEncoding.EncodeToString([]byte(zipped(text))),
		} {
			if len(set.Bytes(how, []byte(data))) == 0 {
				t.Errorf("%s is not found in %s", name, how)
			}
		}
		public := must(x509.MarshalPKIXPublicKey(key.Public()))
		if hits := set.Bytes("public key", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})); len(hits) > 0 {
			t.Errorf("%s: the public key counts as the private one: %v", name, hits)
		}
	}
	var set canary.Set
	if err := set.AddKey("none", []byte("not a key")); err == nil {
		t.Error("what is no key is looked for")
	}
	if err := set.Add("short", "secret"); err == nil {
		t.Error("a word is looked for")
	}
}

func TestTreeTellsModes(t *testing.T) {
	var set canary.Set
	value := set.Plant("token")
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"own": 0o600, "group": 0o640, "sub/all": 0o644, "sub/" + value: 0o600} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		content := "token: " + value
		if strings.Contains(name, value) {
			content = ""
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/secrets/"+value, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	hits, err := set.Tree(dir)
	if err != nil {
		t.Fatal(err)
	}
	private := map[string]bool{}
	for _, h := range hits {
		private[h.Place] = h.Private
	}
	want := map[string]bool{"own": true, "group": false, "sub/all": false, "a name in sub": false, "the link link": false}
	if !maps.Equal(private, want) {
		t.Errorf("got %v, want %v", private, want)
	}
	if _, err := set.Tree(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is not there was searched")
	}
}

func TestProcesses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no /proc on " + runtime.GOOS)
	}
	var set canary.Set
	onLine, inEnvironment := set.Plant("argument"), set.Plant("variable")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "read line", onLine)
	cmd.Env = []string{"MARK=canary", "TOKEN=" + inEnvironment}
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close(); _ = cmd.Wait() }()
	var lines, environments []canary.Hit
	err1 := canary.CommandLines(func(place string, line []byte) { lines = append(lines, set.Bytes(place, line)...) })
	err2 := canary.Environments(func(place string, environment []byte) {
		if bytes.Contains(environment, []byte("MARK=canary\x00")) {
			environments = append(environments, set.Bytes(place, environment)...)
		}
	})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if len(lines) == 0 || lines[0].Secret != "argument" || lines[0].Place != "the command line of sh" {
		t.Errorf("command lines: %v", lines)
	}
	if len(environments) == 0 || environments[0].Secret != "variable" || environments[0].Place != "the environment of sh" {
		t.Errorf("environments: %v", environments)
	}
}

func TestJudge(t *testing.T) {
	hits := []canary.Hit{
		{Place: "a/user-data", Secret: "token", Private: true},
		{Place: "a/log", Secret: "token"},
		{Place: "b/user-data", Secret: "password", Private: true},
		{Place: "b/user-data", Secret: "token"},
		{Place: "stdout", Secret: "hint"},
	}
	rules := []canary.Rule{
		{Place: "*/user-data", Secret: "token", Why: "it is for the host"},
		{Place: "stdout", Secret: "hint", Public: true, Why: "it was asked for"},
		{Place: "disk", Secret: "*", Why: "nothing is there"},
	}
	leaks, idle := canary.Judge(hits, rules)
	if want := []canary.Hit{hits[1], hits[2], hits[3]}; !slices.Equal(leaks, want) {
		t.Errorf("leaks %v, want %v", leaks, want)
	}
	if want := rules[2:]; !slices.Equal(idle, want) {
		t.Errorf("idle rules %v, want %v", idle, want)
	}
}

func TestFields(t *testing.T) {
	dir := t.TempDir()
	sources := map[string]string{
		"a.go": "package vault\ntype Config struct {\n\tKeys []secret.Secret `yaml:\"keys\"`\n\tTLS struct { Pass *secret.Secret }\n" +
			"\tsecret.Secret\n\tAPIToken, Name string\n\tTokenBytes int\n\tX string `json:\"db_password,omitempty\"`\n}\n" +
			"func f() { type local struct { Secrets map[string]secret.Secret } }\n",
		"a_test.go": "package vault\ntype other struct { Password string }\n",
	}
	for name, content := range sources {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fields, err := canary.Fields(dir, "secret.Secret")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range fields {
		got = append(got, fmt.Sprintf("%v %s %v", f, f.Key, f.Typed))
	}
	want := []string{
		"vault.Config.Keys keys true", "vault.Config.TLS.Pass  true", "vault.Config.Secret  true", "vault.Config.APIToken  false",
		"vault.Config.X db_password false", "vault.local.Secrets  true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// BenchmarkScan tells how fast text is searched, for as many secrets as a cluster has.
func BenchmarkScan(b *testing.B) {
	var set canary.Set
	for i := range 40 {
		set.PlantAwkward(strconv.Itoa(i))
	}
	line := "time=2026-01-02T03:04:05Z level=INFO msg=\"joined the cluster\" host=node-1 path=/var/lib/muster/identity/host.crt\n"
	data := strings.Repeat(line, 1<<20/len(line))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if hits := set.Bytes("log", []byte(data)); len(hits) > 0 {
			b.Fatal(hits)
		}
	}
}
