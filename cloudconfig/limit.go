package cloudconfig

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
)

// Limit is what a provider takes as user-data. Drivers declare theirs; whoever plans asks it before anything is made.
// The zero Limit takes everything as it is.
type Limit struct {
	// Bytes is the most that is taken; 0 is no limit.
	Bytes int
	// Base64 says that Bytes counts the base64 that carries the user-data, not the user-data.
	Base64 bool
	// Gzip says that hosts take user-data in gzip: whoever reads it there has cloud-init or musterd, and the provider
	// passes any bytes on.
	Gzip bool
}

// SizeError says that user-data is too large for a provider.
type SizeError struct {
	Size   int // as it counts, in its smallest form
	Limit  Limit
	Zipped bool // Size is that of the gzip
}

func (e *SizeError) Error() string {
	form := ""
	if e.Zipped {
		form = " in gzip"
	}
	if e.Limit.Base64 {
		form += " as base64"
	}
	return fmt.Sprintf("the user-data has %d bytes%s, at most %d are taken; let the host fetch its larger files", e.Size, form, e.Limit.Bytes)
}

// Size is how many bytes of user-data count.
func (l Limit) Size(userData []byte) int {
	if l.Base64 {
		return base64.StdEncoding.EncodedLen(len(userData))
	}
	return len(userData)
}

// Fit returns user-data as a provider takes it: as it is when that is small enough, else in gzip where that may be. A
// *SizeError says that neither fits. Equal user-data gives equal bytes.
func (l Limit) Fit(userData []byte) ([]byte, error) {
	size := l.Size(userData)
	if l.Bytes == 0 || size <= l.Bytes {
		return userData, nil
	}
	if l.Gzip {
		userData = Gzip(userData)
		if size = l.Size(userData); size <= l.Bytes {
			return userData, nil
		}
	}
	return nil, &SizeError{Size: size, Limit: l, Zipped: l.Gzip}
}

// Gzip compresses user-data. Equal user-data gives equal bytes.
func Gzip(data []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic("cloudconfig: " + err.Error()) // a buffer takes everything
	}
	return b.Bytes()
}
