package update

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
)

// verify compares every file of a release with what its metadata says.
func verify(ctx context.Context, o Offer) error {
	if len(o.Files) == 0 {
		return fmt.Errorf("release %s has no files", o.Version)
	}
	for _, f := range o.Files {
		if err := verifyFile(ctx, f); err != nil {
			return fmt.Errorf("cannot use release %s: %w", o.Version, err)
		}
	}
	return nil
}

func verifyFile(ctx context.Context, f File) error {
	in, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	sum := sha256.New()
	n, err := io.Copy(sum, readerOf(ctx, io.LimitReader(in, f.Size+1)))
	if err != nil {
		return err
	}
	if n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.SHA256 {
		_ = os.Remove(f.Path) // to be fetched anew
		return fmt.Errorf("%s is not what the metadata says", f.Name)
	}
	return nil
}

// contextReader ends a long read with its context.
type contextReader struct {
	ctx context.Context
	in  io.Reader
}

func readerOf(ctx context.Context, in io.Reader) io.Reader { return contextReader{ctx, in} }

// Read implements io.Reader.
func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}
