package deliver

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/musterhq/muster/providers/crashsafe"
)

// copies is a directory of files named by their SHA-256.
type copies string

func (c copies) path(sum string) string { return filepath.Join(string(c), sum) }

// add keeps a copy of a binary.
func (c copies) add(b Binary) error {
	if _, err := os.Stat(c.path(b.SHA256)); err == nil {
		return nil // whole: it was renamed into place
	}
	data, err := os.ReadFile(b.Path)
	if err != nil {
		return fmt.Errorf("cannot copy musterd: %w", err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != b.SHA256 {
		return fmt.Errorf("cannot copy musterd: %s has just changed; run the command again", b.Path)
	}
	if err := os.MkdirAll(string(c), 0o700); err != nil {
		return fmt.Errorf("cannot copy musterd: %w", err)
	}
	return crashsafe.WriteFileSync(c.path(b.SHA256), data, 0o600)
}

// served is a URL that this package made.
var served = regexp.MustCompile(`http://([0-9a-f.:\[\]]+)` + urlPath + `([0-9a-f]{64})`)

// check says which file is missing that unfinished hosts were told to fetch from one of the addresses.
func (c copies) check(unfinished [][]byte, addresses []string) error {
	for _, data := range unfinished {
		for _, m := range served.FindAllSubmatch(data, -1) {
			address, sum := string(m[1]), string(m[2])
			if !slices.Contains(addresses, address) {
				continue
			}
			if _, err := os.Stat(c.path(sum)); err != nil {
				return fmt.Errorf("cannot serve what hosts were told to fetch, the musterd with SHA-256 %s: %w; "+
					"put it back, or end these hosts with `muster down`", sum, err)
			}
		}
	}
	return nil
}

// prune removes the copies that no unfinished host was told of.
func (c copies) prune(unfinished [][]byte) error {
	entries, err := os.ReadDir(string(c))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot tidy the copies of musterd: %w", err)
	}
	left := 0
	for _, e := range entries {
		if slices.ContainsFunc(unfinished, func(data []byte) bool { return bytes.Contains(data, []byte(e.Name())) }) {
			left++
		} else {
			err = errors.Join(err, os.Remove(c.path(e.Name())))
		}
	}
	if left == 0 && err == nil {
		err = os.Remove(string(c))
	}
	if err != nil {
		return fmt.Errorf("cannot tidy the copies of musterd: %w", err)
	}
	return nil
}
