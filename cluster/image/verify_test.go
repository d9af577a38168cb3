package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/pe"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// verityRoot is data with a verity tree behind it, of one level, and its root hash.
func verityRoot(data, salt []byte) (root []byte, hash string) {
	s := superblock{Version: 1, HashType: 1, DataBlockSize: 4096, HashBlockSize: 4096}
	copy(s.Magic[:], "verity")
	copy(s.Algorithm[:], "sha256")
	s.DataBlocks, s.SaltSize = uint64(len(data)/4096), uint16(len(salt))
	copy(s.Salt[:], salt)
	header, top := make([]byte, 4096), make([]byte, 0, 4096)
	if _, err := binary.Encode(header, binary.LittleEndian, s); err != nil {
		panic(err)
	}
	for block := range slices.Chunk(data, 4096) {
		sum := sha256.Sum256(append(bytes.Clone(salt), block...))
		top = append(top, sum[:]...)
	}
	top = top[:4096]
	sum := sha256.Sum256(append(bytes.Clone(salt), top...))
	return append(append(bytes.Clone(data), header...), top...), hex.EncodeToString(sum[:])
}

// kernelImage is a PE file with a command line.
func kernelImage(line string) []byte {
	const headers = 512
	var b bytes.Buffer
	b.WriteString("MZ")
	b.Write(make([]byte, 58))
	_ = binary.Write(&b, binary.LittleEndian, uint32(64)) // where the signature is
	b.WriteString("PE\x00\x00")
	_ = binary.Write(&b, binary.LittleEndian, pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1})
	section := pe.SectionHeader32{
		VirtualSize: uint32(len(line)), SizeOfRawData: uint32(len(line) + 16), PointerToRawData: headers,
	}
	copy(section.Name[:], ".cmdline")
	_ = binary.Write(&b, binary.LittleEndian, section)
	b.Write(make([]byte, headers-b.Len()))
	b.WriteString(line)
	b.Write(make([]byte, 16))
	return b.Bytes()
}

// build writes a release as a build does. change alters its files before the manifest is made of them; the
// file "named" lists what the manifest names beside root and kernel image.
func build(t *testing.T, change func(files map[string][]byte)) Release {
	t.Helper()
	data := bytes.Repeat([]byte("muster squashfs "), 3*4096/16)
	root, hash := verityRoot(data, []byte("salt of muster"))
	line := fmt.Sprintf("muster.root=muster_7 roothash=%s muster.hash=%d quiet", hash, len(data))
	files := map[string][]byte{"muster_7.root": root, "muster_7.efi": kernelImage(line), "cmdline": []byte(line)}
	if change != nil {
		change(files)
	}
	r := Release{Manifest: Manifest{Name: "muster", Version: "7", Suite: "trixie"}, Dir: t.TempDir()}
	for _, name := range append([]string{"muster_7.root", "muster_7.efi"}, strings.Fields(string(files["named"]))...) {
		sum := sha256.Sum256(files[name])
		r.Files = append(r.Files, File{name, hex.EncodeToString(sum[:]), int64(len(files[name]))})
	}
	for name, content := range files {
		write(t, filepath.Join(r.Dir, name), content)
	}
	write(t, r.Path(), []byte(r.Manifest.String()))
	return r
}

func problems(report Report) map[string]string {
	found := map[string]string{}
	for _, f := range report.Files {
		if f.OK != (f.Problem == "") {
			found[f.Name] = "says that it is ok and is not, or the other way round"
		} else if !f.OK {
			found[f.Name] = f.Problem
		}
	}
	return found
}

func TestVerify(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(files map[string][]byte)  // before the manifest is made
		after  func(t *testing.T, dir string) // after it
		want   map[string]string              // part of each file's problem
	}{
		{name: "good"},
		{name: "no cmdline", change: func(files map[string][]byte) { delete(files, "cmdline") }},
		{
			name: "cmdline of another version",
			change: func(files map[string][]byte) {
				files["cmdline"] = []byte("muster.root=muster_8 roothash=" + sumA + " muster.hash=1")
			},
		},
		{
			name:   "cmdline that differs",
			change: func(files map[string][]byte) { files["cmdline"] = append(files["cmdline"], " debug"...) },
			want:   map[string]string{"cmdline": "is not the command line in muster_7.efi"},
		},
		{
			name: "cmdline that the manifest names and that differs",
			change: func(files map[string][]byte) {
				files["cmdline"] = append(files["cmdline"], " debug"...)
				files["named"] = []byte("cmdline")
			},
			want: map[string]string{"cmdline": "is not the command line in muster_7.efi"},
		},
		{
			name:  "missing",
			after: func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "muster_7.root")) },
			want:  map[string]string{"muster_7.root": "is missing"},
		},
		{
			name: "folder",
			after: func(t *testing.T, dir string) {
				remove(t, filepath.Join(dir, "muster_7.root"))
				if err := os.Mkdir(filepath.Join(dir, "muster_7.root"), 0o700); err != nil {
					t.Fatal(err)
				}
			},
			want: map[string]string{"muster_7.root": "is not a file"},
		},
		{
			name:  "cut off",
			after: func(t *testing.T, dir string) { write(t, filepath.Join(dir, "muster_7.efi"), []byte("MZ")) },
			want:  map[string]string{"muster_7.efi": "has 2 bytes, not "},
		},
		{
			name: "one bit",
			after: func(t *testing.T, dir string) {
				path := filepath.Join(dir, "muster_7.root")
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				data[5000] ^= 1
				write(t, path, data)
			},
			want: map[string]string{"muster_7.root": "has the SHA-256 "},
		},
		{
			name: "root of another build",
			change: func(files map[string][]byte) {
				files["muster_7.root"], _ = verityRoot(make([]byte, 3*4096), []byte("salt"))
			},
			want: map[string]string{"muster_7.root": "has the root hash "},
		},
		{
			name:   "root of another size",
			change: func(files map[string][]byte) { files["muster_7.root"], _ = verityRoot(make([]byte, 4*4096), nil) },
			want:   map[string]string{"muster_7.root": "it has no verity tree at byte 12288"},
		},
		{
			name:   "tree cut off",
			change: func(files map[string][]byte) { files["muster_7.root"] = files["muster_7.root"][:4*4096] },
			want:   map[string]string{"muster_7.root": "is cut off"},
		},
		{
			name: "kernel of another version",
			change: func(files map[string][]byte) {
				files["muster_7.efi"] = bytes.ReplaceAll(files["muster_7.efi"], []byte("muster_7"), []byte("muster_6"))
			},
			want: map[string]string{"muster_7.efi": `boots "muster_6"`},
		},
		{
			name:   "kernel without a root hash",
			change: func(files map[string][]byte) { files["muster_7.efi"] = kernelImage("quiet") },
			want:   map[string]string{"muster_7.efi": "lacks"},
		},
		{
			name: "kernel with two root hashes",
			change: func(files map[string][]byte) {
				files["muster_7.efi"] = kernelImage(string(files["cmdline"]) + " roothash=" + sumA)
			},
			want: map[string]string{"muster_7.efi": "`roothash` twice"},
		},
		{
			name:   "no kernel image",
			change: func(files map[string][]byte) { files["muster_7.efi"] = []byte("hello") },
			want:   map[string]string{"muster_7.efi": "is not a kernel image"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := build(t, tt.change)
			if tt.after != nil {
				tt.after(t, r.Dir)
			}
			report, err := Verify(t.Context(), r, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			got := problems(report)
			if report.OK != (len(tt.want) == 0) || len(got) != len(tt.want) {
				t.Errorf("ok %t, problems %v, want %v", report.OK, got, tt.want)
			}
			for name, part := range tt.want {
				if !strings.Contains(got[name], part) {
					t.Errorf("%s %q, want %q", name, got[name], part)
				}
			}
		})
	}
}

// TestVerifyShared: the next build into a directory replaces the files that are not called after a version, which is no
// problem of the one before. Files that are of no build are.
func TestVerifyShared(t *testing.T) {
	r := build(t, nil)
	name := func(version, file, content string) Release {
		sum := sha256.Sum256([]byte(content))
		other := Release{Manifest: Manifest{Name: "muster", Version: version, Suite: "trixie"}, Dir: r.Dir}
		other.Files = []File{{file, hex.EncodeToString(sum[:]), int64(len(content))}}
		write(t, other.Path(), []byte(other.String()))
		return other
	}
	older, newer := name("1", "vmlinuz", "one"), name("2", "vmlinuz", "two")
	write(t, filepath.Join(r.Dir, "vmlinuz"), []byte("two"))
	for _, tt := range []struct {
		release Release
		content string
		ok      bool
		version string
	}{
		{newer, "two", true, ""},
		{older, "two", true, "2"},
		{newer, "one", true, "1"},
		{older, "six", false, ""},
		{newer, "six", false, ""},
	} {
		write(t, filepath.Join(r.Dir, "vmlinuz"), []byte(tt.content))
		report, err := Verify(t.Context(), tt.release, "", nil)
		if err != nil || report.OK != tt.ok || report.Files[0].OK != tt.ok || report.Files[0].Version != tt.version {
			t.Errorf("%q beside %s: %+v, %v", tt.content, tt.release.Base(), report, err)
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyOne(t *testing.T) {
	r := build(t, nil)
	remove(t, filepath.Join(r.Dir, "muster_7.efi"))
	var read int64
	report, err := Verify(t.Context(), r, "muster_7.root", func(bytes int64) { read = bytes })
	if err != nil || !report.OK || len(report.Files) != 1 || read != r.Files[0].Bytes {
		t.Errorf("%+v, %d bytes read, %v", report, read, err)
	}
}

func TestVerifyReportsAll(t *testing.T) {
	r := build(t, nil)
	var read []int64
	report, err := Verify(t.Context(), r, "", func(bytes int64) { read = append(read, bytes) })
	if err != nil {
		t.Fatal(err)
	}
	_, hash := verityRoot(bytes.Repeat([]byte("muster squashfs "), 3*4096/16), []byte("salt of muster"))
	want := Report{
		Name: "muster", Version: "7", Manifest: r.Path(), OK: true, RootHash: hash,
		Files: []FileReport{{File: r.Files[0], OK: true}, {File: r.Files[1], OK: true}, {File: File{Name: "cmdline", Bytes: 118}, OK: true}},
	}
	if diff := cmp.Diff(want, report); diff != "" {
		t.Error(diff)
	}
	if total := r.Files[0].Bytes + r.Files[1].Bytes; len(read) == 0 || read[len(read)-1] != total {
		t.Errorf("read %v, want %d at the end", read, total)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ended, r, "", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

// FuzzRootHash: no root makes the reading of its tree panic or read far.
func FuzzRootHash(f *testing.F) {
	root, _ := verityRoot(make([]byte, 2*4096), []byte("salt"))
	f.Add(root, int64(2*4096))
	f.Add([]byte("verity\x00\x00"), int64(0))
	f.Fuzz(func(t *testing.T, root []byte, offset int64) {
		if offset < 0 {
			return
		}
		if hash, err := rootHash(bytes.NewReader(root), offset); err == nil && !sumForm.MatchString(hash) {
			t.Errorf("root hash %q", hash)
		}
	})
}
