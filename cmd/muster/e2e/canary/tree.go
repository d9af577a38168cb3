package canary

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// others are the permissions that make a file more than its owner's.
const others = 0o077

// Tree searches every file below a directory, its name, and where a symbolic link leads. Places are paths relative to dir. A
// file is Private by its own mode: a directory above that keeps others out does not count. What vanishes meanwhile is
// passed over.
func (s *Set) Tree(dir string) ([]Hit, error) {
	var hits []Hit
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		if err != nil {
			return err
		}
		place, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		found, err := s.entry(path, place, entry)
		hits = append(hits, found...)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return sorted(hits), err
}

func (s *Set) entry(path, place string, entry fs.DirEntry) ([]Hit, error) {
	hits := s.Bytes("the name "+place, []byte(entry.Name()))
	for i := range hits { // the name itself must not be told
		hits[i].Place = "a name in " + filepath.Dir(place)
	}
	switch {
	case entry.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return append(hits, s.Bytes("the link "+place, []byte(target))...), err
	case entry.Type().IsRegular():
		found, err := s.File(path, place)
		return append(hits, found...), err
	}
	return hits, nil
}

// File searches a file, which hits call place.
func (s *Set) File(path, place string) ([]Hit, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	hits, err := s.Scan(place, f)
	for i := range hits {
		hits[i].Private = info.Mode().Perm()&others == 0
	}
	return hits, err
}
