package state

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"

	"github.com/musterhq/muster/cluster/store"
)

// Tokens are the join tokens with which the operator itself admits a cluster's first hosts, by the SHA-256 of their
// secrets. Every change is on disk before it is reported. It is safe for concurrent use.
type Tokens struct {
	mu     sync.Mutex
	file   string
	tokens map[string]store.Token
}

type tokensFile struct {
	V      int                    `json:"v"`
	Tokens map[string]store.Token `json:"tokens"`
}

func openTokens(name string) (*Tokens, error) {
	content := tokensFile{V: Version}
	if err := readJSON(name, &content); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	t := &Tokens{file: name, tokens: content.Tokens}
	if t.tokens == nil {
		t.tokens = make(map[string]store.Token)
	}
	return t, checkVersion(fileTokens, content.V)
}

// Put writes tokens by their hashes, replacing those that exist.
func (t *Tokens) Put(tokens map[string]store.Token) error {
	return t.change(func(all map[string]store.Token) error {
		maps.Copy(all, tokens)
		return nil
	})
}

// Update replaces the token of a hash by what change returns of it, as one step: no other change comes between. change
// gets false when there is no such token. When it returns an error, nothing is written and Update returns the error.
func (t *Tokens) Update(hash string, change func(store.Token, bool) (store.Token, error)) error {
	return t.change(func(all map[string]store.Token) error {
		old, ok := all[hash]
		updated, err := change(old, ok)
		all[hash] = updated
		return err
	})
}

// Get finds a token.
func (t *Tokens) Get(hash string) (store.Token, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	token, ok := t.tokens[hash]
	return token, ok
}

// Clear forgets every token, when no host of the operator's is left to be admitted.
func (t *Tokens) Clear() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == "" {
		return os.ErrClosed
	}
	if err := os.Remove(t.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot forget the tokens: %w", err)
	}
	t.tokens = make(map[string]store.Token)
	return nil
}

func (t *Tokens) change(edit func(map[string]store.Token) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == "" {
		return fmt.Errorf("cannot write the tokens: %w", os.ErrClosed)
	}
	changed := maps.Clone(t.tokens)
	if err := edit(changed); err != nil {
		return err
	}
	if err := writeJSON(t.file, tokensFile{V: Version, Tokens: changed}); err != nil {
		return err
	}
	t.tokens = changed
	return nil
}

func (t *Tokens) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.file = ""
}
