package providertest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/musterhq/muster/providers"
)

// images are the tests of providers.ImageTaker.
var images = []subtest{
	{"ImageIsKept", imageIsKept},
	{"ImageOfAnotherSum", imageOfAnotherSum},
	{"ImageInvalid", imageInvalid},
	{"UploadConcurrently", uploadConcurrently},
	{"AnswerOfUploadLost", answerOfUploadLost},
	{"UploadCutShort", uploadCutShort},
}

// taker is the provider as one that takes images; one that takes none ends the test.
func (s *suite) taker() providers.ImageTaker {
	s.t.Helper()
	return s.takerOf(s.Provider)
}

func (s *suite) takerOf(p providers.Provider) providers.ImageTaker {
	s.t.Helper()
	taker, ok := providers.As[providers.ImageTaker](p)
	if !ok {
		s.t.Skip("the provider takes no images")
	}
	return taker
}

// image writes a file of a megabyte that differs with its fill.
func (s *suite) image(fill byte) providers.Image {
	s.t.Helper()
	data := bytes.Repeat([]byte{fill}, imageSize)
	path := filepath.Join(s.t.TempDir(), "image.raw")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	return providers.Image{Name: "muster_1", Path: path, SHA256: hex.EncodeToString(sum[:])}
}

const imageSize = 1 << 20

// upload uploads an image, which must succeed, and tells how far the upload said that it came.
func (s *suite) upload(taker providers.ImageTaker, image providers.Image) (reference string, taken int64) {
	s.t.Helper()
	reference, err := taker.UploadImage(s.t.Context(), image, func(bytes int64) { taken = bytes })
	if err != nil {
		s.t.Fatalf("upload: %v", err)
	}
	if reference == "" {
		s.t.Fatal("an uploaded image has no reference")
	}
	return reference, taken
}

// wantThere checks that an image is there under its reference and is not sent again.
func (s *suite) wantThere(image providers.Image, reference string) {
	s.t.Helper()
	if again, taken := s.upload(s.taker(), image); again != reference || taken != 0 {
		s.t.Errorf("an image that is there as %s is uploaded as %s, %d bytes of it", reference, again, taken)
	}
}

func imageIsKept(s *suite) {
	first, second := s.image(1), s.image(2)
	reference, taken := s.upload(s.taker(), first)
	if taken != imageSize {
		s.t.Errorf("an upload of %d bytes ended at %d", imageSize, taken)
	}
	s.wantThere(first, reference)
	if other, _ := s.upload(s.taker(), second); other == reference {
		s.t.Errorf("two images share the reference %s", reference)
	}
	s.cleanup()
	s.wantThere(first, reference)
	renamed := first
	renamed.Name = "another"
	s.wantThere(renamed, reference)
	if again, err := s.taker().UploadImage(s.t.Context(), first, nil); err != nil || again != reference {
		s.t.Errorf("without progress: %s, %v", again, err)
	}
}

// imageOfAnotherSum uploads a file that is not what it is said to be, and then the one that is.
func imageOfAnotherSum(s *suite) {
	image, other := s.image(1), s.image(2)
	wrong := image
	wrong.Path = other.Path
	_, err := s.taker().UploadImage(s.t.Context(), wrong, nil)
	s.wantError(err, providers.ErrInvalid, "upload of another file")
	if err := os.WriteFile(other.Path, []byte("short"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	_, err = s.taker().UploadImage(s.t.Context(), wrong, nil)
	s.wantError(err, providers.ErrInvalid, "upload of a short file")
	reference, taken := s.upload(s.taker(), image)
	if taken != imageSize {
		s.t.Errorf("after uploads of other files, %d bytes of the image were taken", taken)
	}
	s.wantThere(image, reference)
}

func imageInvalid(s *suite) {
	taker := s.taker()
	for what, change := range map[string]func(*providers.Image){
		"name":     func(i *providers.Image) { i.Name = "../muster" },
		"no name":  func(i *providers.Image) { i.Name = "" },
		"sum":      func(i *providers.Image) { i.SHA256 = "../" + i.SHA256[3:] },
		"no sum":   func(i *providers.Image) { i.SHA256 = "" },
		"no file":  func(i *providers.Image) { i.Path = "" },
		"a folder": func(i *providers.Image) { i.Path = filepath.Dir(i.Path) },
	} {
		image := s.image(1)
		change(&image)
		_, err := taker.UploadImage(s.t.Context(), image, nil)
		s.wantError(err, providers.ErrInvalid, "upload of an image with a bad "+what)
	}
	image := s.image(1)
	_, err := taker.UploadImage(s.ended(), image, nil)
	s.wantError(err, context.Canceled, "upload")
	image.Path += ".not"
	_, err = taker.UploadImage(s.t.Context(), image, nil)
	s.wantError(err, providers.ErrNotFound, "upload of a file that is not there")
}

func uploadConcurrently(s *suite) {
	image := s.image(1)
	takers := []providers.ImageTaker{s.taker()}
	if s.Reopen != nil {
		takers = append(takers, s.takerOf(s.Reopen(s.t)))
	}
	references := make([]string, 4)
	errs := make([]error, len(references))
	var group sync.WaitGroup
	for i := range references {
		group.Go(func() {
			references[i], errs[i] = takers[i%len(takers)].UploadImage(s.t.Context(), image, func(int64) {})
		})
	}
	group.Wait()
	for i, err := range errs {
		if err != nil || references[i] != references[0] {
			s.t.Errorf("upload %d: %s and %s, %v", i, references[i], references[0], err)
		}
	}
	s.wantThere(image, references[0])
}

// answerOfUploadLost loses the request, and then the answer, of an upload that is repeated.
func answerOfUploadLost(s *suite) {
	s.taker()
	for fill, fault := range []providers.Fault{{Before: providers.ErrUnavailable}, {After: providers.ErrUnavailable}} {
		image := s.image(byte(fill))
		reference, taken := s.upload(s.takerOf(s.retrying(providers.OpUpload, fault)), image)
		if taken != imageSize {
			s.t.Errorf("fault %d: %d bytes were taken", fill, taken)
		}
		s.wantThere(image, reference)
	}
}

// uploadCutShort repeats an upload that crashed.
func uploadCutShort(s *suite) {
	taker := s.taker()
	if s.CrashUpload == nil {
		s.t.Skip("the provider takes an image in one step")
	}
	image := s.image(1)
	s.CrashUpload(s.t, image)
	reference, _ := s.upload(taker, image)
	s.wantThere(image, reference)
	s.cleanup()
	s.wantThere(image, reference)
}

// RunUploadCrash runs the test of Fixture.CrashUpload alone, for a driver that may crash at several moments. Run includes
// it.
func RunUploadCrash(t *testing.T, factory Factory) {
	run(t, factory, []subtest{{"UploadCutShort", uploadCutShort}})
}
