package image

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const sumA = "248c06bb42dfaa6699b125f4226f2fc0cd9c337d482cf3a415eb3143b473524b"

// good is a manifest, of which the real ones are longer.
const good = `image muster 1 trixie 1700000000
package adduser 3.152
package libgcrypt20 1.11.0-7+deb13u1
package linux-image-6.12.117+deb13-cloud-amd64 6.12.117-1
package zlib1g 1:1.3.dfsg+really1.3.1-1+deb13u1
file muster_1.root ` + sumA + ` 106270720
file muster_1.efi 81b6a3fd160e9a736aab5fbd642b4fd442d61adaa3d518cea3d57232ff85100f 17618944
`

func TestParse(t *testing.T) {
	m, err := Parse([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	want := Manifest{
		Name: "muster", Version: "1", Suite: "trixie", Epoch: 1_700_000_000,
		Packages: []Package{
			{"adduser", "3.152"},
			{"libgcrypt20", "1.11.0-7+deb13u1"},
			{"linux-image-6.12.117+deb13-cloud-amd64", "6.12.117-1"},
			{"zlib1g", "1:1.3.dfsg+really1.3.1-1+deb13u1"},
		},
		Files: []File{
			{"muster_1.root", sumA, 106_270_720},
			{"muster_1.efi", "81b6a3fd160e9a736aab5fbd642b4fd442d61adaa3d518cea3d57232ff85100f", 17_618_944},
		},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(good, m.String()); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, old, with, want string }{
		{"nothing", good, "", "it is empty"},
		{"cut off", " 17618944\n", " 176", "line 7: it has no end"},
		{"no image", "image muster 1 trixie 1700000000\n", "", "line 1: the first line, and only that, says `image`"},
		{"two images", "package adduser 3.152\n", "image muster 2 trixie 1\n", "line 2: the first line"},
		{"unknown record", "package adduser 3.152", "snap adduser 3.152", "line 2: "},
		{"empty line", "package adduser 3.152\n", "\n", "line 2: "},
		{"carriage return", "3.152\n", "3.152\r\n", "line 2: "},
		{"two spaces", "package adduser", "package  adduser", "line 2: "},
		{"space at the end", "3.152\n", "3.152 \n", "line 2: "},
		{"word too many", "file muster_1.root", "file muster 1.root", "line 6: "},
		{"word too few", " 106270720", "", "line 6: "},
		{"file is a path", "file muster_1.root", "file ../muster_1.root", "line 6: \"../muster_1.root\" is not the name of a file"},
		{"file is hidden", "file muster_1.root", "file .root", "is not the name of a file"},
		{"version is a path", "muster 1 trixie", "muster 1/2 trixie", "is not a version"},
		{"sum in capitals", sumA, strings.ToUpper(sumA), "SHA-256 of muster_1.root"},
		{"short sum", sumA, sumA[1:], "SHA-256 of muster_1.root"},
		{"negative size", " 106270720", " -1", "is not the size"},
		{"size with a zero before it", " 106270720", " 0106270720", "is not the size"},
		{"size with a sign", " 106270720", " +106270720", "is not the size"},
		{"size beyond 63 bits", " 106270720", " 9223372036854775808", "is not the size"},
		{"package twice", "libgcrypt20 1.11.0", "adduser 1.11.0", "line 3: package \"adduser\" is there twice"},
		{"file twice", "file muster_1.efi", "file muster_1.root", "line 7: file \"muster_1.root\" is there twice"},
		{"package after a file", "17618944\n", "17618944\npackage late 1\n", "line 8: package late comes after a file"},
		{"escape sequence", "package adduser", "package \x1b[31madduser", `\x1b`},
		{"too large", good, strings.Repeat(good, 3000), "more than 1048576"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("%q is not in the manifest", tt.old)
			}
			_, err := Parse([]byte(strings.Replace(good, tt.old, tt.with, 1)))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.ContainsAny(err.Error(), "\x1b\r\n") {
				t.Errorf("error %q, want one with %q", err, tt.want)
			}
		})
	}
}

// FuzzParse: what is accepted is exactly what rendering gives, and nothing in it can leave its directory or its line.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("image a 1 b 0\n"))
	f.Add([]byte("image a 1 b 0\nfile x " + sumA + " 0\n"))
	f.Add([]byte("image a 1 b 0\npackage x 1\npackage x 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("the error is not one plain line: %q", err)
			}
			return
		}
		if m.String() != string(data) {
			t.Errorf("rendered again %q differs from %q", m.String(), data)
		}
		for _, file := range m.Files {
			if strings.ContainsAny(file.Name, "/\\ ") || strings.HasPrefix(file.Name, ".") || file.Bytes < 0 {
				t.Errorf("file %+v", file)
			}
		}
	})
}
