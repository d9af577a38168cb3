package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Report is what the verification of a release came to.
type Report struct {
	Name     string       `json:"name"`
	Version  string       `json:"version"`
	Manifest string       `json:"manifest"` // path
	OK       bool         `json:"ok"`       // no file has a problem
	Files    []FileReport `json:"files"`
	RootHash string       `json:"root_hash,omitempty"` // that the kernel image asks for; "" when there is none to ask
}

// FileReport is what was found of one file.
type FileReport struct {
	File
	OK      bool   `json:"ok"`
	Problem string `json:"problem,omitempty"` // "" when it is what a build made
	// Version is another version that the file is of. Builds into one directory share the files that are not called
	// after a version, and the last one's are there.
	Version string `json:"of_version,omitempty"`
}

// Verify compares the files that a release's manifest names with what is there. only limits it to one of them; "" is all.
// It also looks whether the kernel image, the file cmdline when it is of this version, and the root agree on the root hash.
// progress, which may be nil, is told how many bytes were read. What is wrong with the files is in the report; the error
// says that they could not be looked at.
func Verify(ctx context.Context, r Release, only string, progress func(bytes int64)) (Report, error) {
	report := Report{Name: r.Name, Version: r.Version, Manifest: r.Path(), Files: []FileReport{}}
	var before int64
	for _, want := range r.Files {
		if only != "" && want.Name != only {
			continue
		}
		problem, read, err := compare(ctx, filepath.Join(r.Dir, want.Name), want, func(bytes int64) {
			if progress != nil {
				progress(before + bytes)
			}
		})
		if err != nil {
			return report, err
		}
		before += read
		found := FileReport{File: want, Problem: problem}
		if problem != "" && !strings.HasPrefix(want.Name, r.Base()+".") {
			if found.Version, err = replacedBy(ctx, r, want.Name); err != nil {
				return report, err
			}
			if found.Version != "" {
				found.Problem = ""
			}
		}
		report.Files = append(report.Files, found)
	}
	report.checkRootHash(r)
	report.OK = true
	for i, f := range report.Files {
		report.Files[i].OK = f.Problem == ""
		report.OK = report.OK && f.Problem == ""
	}
	return report, nil
}

// compare tells how a file differs from what the manifest says.
func compare(ctx context.Context, path string, want File, progress func(int64)) (problem string, read int64, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is missing", 0, nil
	case err != nil:
		return "", 0, fmt.Errorf("cannot verify: %w", err)
	case !info.Mode().IsRegular():
		return "is not a file", 0, nil
	case info.Size() != want.Bytes:
		return fmt.Sprintf("has %d bytes, not %d", info.Size(), want.Bytes), 0, nil
	}
	sum, read, err := Sum(ctx, path, progress)
	if err == nil && sum != want.SHA256 {
		problem = fmt.Sprintf("has the SHA-256 %s, not %s", sum, want.SHA256)
	}
	return problem, read, err
}

// replacedBy is the version of another release in the directory that a file is of, "" when it is of none.
func replacedBy(ctx context.Context, r Release, name string) (version string, err error) {
	list, err := List(r.Dir)
	if err != nil {
		return "", err
	}
	for _, other := range slices.Backward(list) {
		want, named := other.File(name)
		if !named || other.Base() == r.Base() {
			continue
		}
		problem, _, err := compare(ctx, filepath.Join(r.Dir, name), want, nil)
		if err != nil || problem == "" {
			return other.Version, err
		}
	}
	return "", nil
}

// Sum is the SHA-256 of a file, in lower-case hexadecimal, and its size in bytes. progress, which may be nil, is told how
// many bytes were read.
func Sum(ctx context.Context, path string, progress func(bytes int64)) (sum string, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("cannot read an image: %w", err)
	}
	defer func() { _ = file.Close() }()
	hash := sha256.New()
	buffer := make([]byte, 1<<20)
	for {
		if err := context.Cause(ctx); err != nil {
			return "", size, err
		}
		n, err := file.Read(buffer)
		_, _ = hash.Write(buffer[:n]) // never fails
		size += int64(n)
		if progress != nil && n > 0 {
			progress(size)
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), size, nil
		}
		if err != nil {
			return "", size, fmt.Errorf("cannot read an image: %w", err)
		}
	}
}

// checkRootHash adds what is wrong with the way from the kernel to the root. A file that already has a problem keeps that.
func (report *Report) checkRootHash(r Release) {
	kernel, root := report.find(r.Base()+".efi"), report.find(r.Base()+".root")
	if kernel == nil || kernel.Problem != "" {
		return
	}
	line, err := commandLineOf(filepath.Join(r.Dir, kernel.Name))
	var asked boot
	if err == nil {
		asked, err = parseCommandLine(line)
	}
	if err == nil && asked.root != r.Base() {
		err = fmt.Errorf("its command line boots %q", asked.root)
	}
	if err != nil {
		kernel.Problem = err.Error()
		return
	}
	report.RootHash = asked.hash
	if root != nil && root.Problem == "" {
		root.Problem = compareRootHash(filepath.Join(r.Dir, root.Name), asked)
	}
	report.checkDirectBoot(r, line)
}

// find is the report of a file, nil when it is not verified.
func (report *Report) find(name string) *FileReport {
	for i := range report.Files {
		if report.Files[i].Name == name {
			return &report.Files[i]
		}
	}
	return nil
}

func commandLineOf(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	return kernelCommandLine(file)
}

func compareRootHash(path string, asked boot) (problem string) {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }()
	actual, err := rootHash(file, asked.offset)
	switch {
	case err != nil:
		return err.Error()
	case actual != asked.hash:
		return fmt.Sprintf("has the root hash %s, the kernel image asks for %s", actual, asked.hash)
	}
	return ""
}

// directBoot is the file with the command line for a boot without boot loader. It is of the last build, whatever version
// that was.
const directBoot = "cmdline"

// checkDirectBoot looks whether direct boot gets the kernel image's command line, when the file is of this version.
func (report *Report) checkDirectBoot(r Release, line string) {
	data, err := os.ReadFile(filepath.Join(r.Dir, directBoot))
	if err != nil {
		return // missing, which is a problem when the manifest names it
	}
	direct := strings.TrimRight(string(data), "\n")
	if at, err := parseCommandLine(direct); err != nil || at.root != r.Base() {
		return
	}
	f := report.find(directBoot)
	if f == nil {
		report.Files = append(report.Files, FileReport{File: File{Name: directBoot, Bytes: int64(len(data))}})
		f = report.find(directBoot)
	}
	if f.Problem == "" && f.Version == "" && direct != line {
		f.Problem = "is not the command line in " + r.Base() + ".efi"
	}
}
