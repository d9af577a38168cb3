package vsphere

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/nfc"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/musterhq/muster/providers"
)

// maxDescriptor bounds the OVF descriptor in an OVA; they have some kilobytes.
const maxDescriptor = 4 << 20

// ovaFile is the OVA's file on this machine, whose SHA-256 is verified. One from a URL is downloaded once.
func (p *Provider) ovaFile(ctx context.Context, s *Settings) (file, sum string, err error) {
	file = p.file(s.OVA)
	if strings.Contains(s.OVA, "://") {
		file = filepath.Join(p.stateDir, "ova", s.SHA256+".ova")
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			if err := download(ctx, s.OVA, file, s.SHA256); err != nil {
				return "", "", fmt.Errorf("cannot download %s: %w", s.OVA, err)
			}
		}
	}
	sum, err = p.files.sum(ctx, file)
	if err == nil && s.SHA256 != "" && sum != s.SHA256 {
		err = fmt.Errorf("%s has the SHA-256 %s, not %s: %w", file, sum, s.SHA256, providers.ErrInvalid)
	}
	return file, sum, err
}

// download fetches a file that has a known sum. The name is given when it is whole.
func download(ctx context.Context, from, to, want string) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	part, err := os.CreateTemp(filepath.Dir(to), ".download-*")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, part.Close())
		if err == nil {
			err = os.Rename(part.Name(), to)
		}
		if err != nil {
			_ = os.Remove(part.Name())
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", err, providers.ErrUnavailable)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		class := providers.ErrNotFound
		if res.StatusCode >= http.StatusInternalServerError || res.StatusCode == http.StatusTooManyRequests {
			class = providers.ErrUnavailable
		}
		return fmt.Errorf("the server answers %s: %w", res.Status, class)
	}
	hash := sha256.New()
	if _, err := io.Copy(io.MultiWriter(part, hash), res.Body); err != nil {
		return fmt.Errorf("%w: %w", err, providers.ErrUnavailable)
	}
	if sum := hex.EncodeToString(hash.Sum(nil)); sum != want {
		return fmt.Errorf("the SHA-256 is %s, not %s: %w", sum, want, providers.ErrInvalid)
	}
	return nil
}

// ova is an OVA file that is read. An OVA is a tar whose first file is the OVF descriptor (DSP0243, section 5.4).
type ova struct {
	path       string
	descriptor string
	networks   []string
}

// openOVA reads the descriptor of an OVA.
func openOVA(file string) (ova, error) {
	found := ova{path: file}
	err := found.each(func(name string, size int64, content io.Reader) (bool, error) {
		if path.Ext(name) != ".ovf" {
			return true, nil
		}
		text, err := io.ReadAll(io.LimitReader(content, maxDescriptor))
		found.descriptor = string(text)
		return false, err
	})
	if err != nil {
		return found, err
	}
	if found.descriptor == "" {
		return found, fmt.Errorf("%s holds no OVF descriptor, is it an OVA?: %w", file, providers.ErrInvalid)
	}
	var envelope struct {
		Networks []struct {
			Name string `xml:"name,attr"`
		} `xml:"NetworkSection>Network"`
	}
	if err := xml.Unmarshal([]byte(found.descriptor), &envelope); err != nil {
		return found, fmt.Errorf("the OVF descriptor in %s is not XML: %w: %w", file, err, providers.ErrInvalid)
	}
	for _, n := range envelope.Networks {
		found.networks = append(found.networks, n.Name)
	}
	return found, nil
}

// each walks over the files of an OVA until do has had enough.
func (o ova) each(do func(name string, size int64, content io.Reader) (more bool, err error)) error {
	file, err := os.Open(o.path)
	if err != nil {
		return fmt.Errorf("%w: %w", err, providers.ErrInvalid)
	}
	defer func() { _ = file.Close() }()
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s is not an OVA: %w: %w", o.path, err, providers.ErrInvalid)
		}
		if more, err := do(path.Base(header.Name), header.Size, archive); err != nil || !more {
			return err
		}
	}
}

// importOVA uploads an OVA.
func (p *Provider) importOVA(
	ctx context.Context, c *client, o owner, file, name string, at place, folder types.ManagedObjectReference, store entry,
) (types.ManagedObjectReference, error) {
	var none types.ManagedObjectReference
	archive, err := openOVA(file)
	if err != nil {
		return none, err
	}
	spec, items, err := c.importSpec(ctx, archive, name, at, store)
	if err != nil {
		return none, err
	}
	spec.ConfigSpec.ExtraConfig = append(spec.ConfigSpec.ExtraConfig, p.imageTags(o)...)
	res, err := methods.ImportVApp(ctx, c, &types.ImportVApp{This: at.pool, Spec: spec, Folder: &folder, Host: at.host})
	if err != nil {
		return none, err
	}
	lease := nfc.NewLease(c.Client, res.Returnval)
	info, err := lease.Wait(ctx, items)
	if err != nil {
		return none, errors.Join(err, lease.Abort(ctx, nil))
	}
	updater := lease.StartUpdater(ctx, info)
	err = archive.each(func(name string, size int64, content io.Reader) (bool, error) {
		for _, item := range info.Items {
			if path.Base(item.Path) == name {
				return true, lease.Upload(ctx, item, content, soap.Upload{ContentLength: size})
			}
		}
		return true, nil
	})
	updater.Done()
	if err != nil {
		return none, errors.Join(fmt.Errorf("cannot upload %s: %w", file, err), lease.Abort(ctx, nil))
	}
	return info.Entity, lease.Complete(ctx)
}

// importSpec asks the server what it will make of an OVF descriptor.
func (c *client) importSpec(
	ctx context.Context, archive ova, name string, at place, store entry,
) (*types.VirtualMachineImportSpec, []types.OvfFileItem, error) {
	params := types.OvfCreateImportSpecParams{
		EntityName: name, HostSystem: at.host, DiskProvisioning: string(types.OvfCreateImportSpecParamsDiskProvisioningTypeThin),
		OvfManagerCommonParams: types.OvfManagerCommonParams{Locale: "US"},
	}
	for _, n := range archive.networks {
		if len(at.networks) > 0 {
			params.NetworkMapping = append(params.NetworkMapping, types.OvfNetworkMapping{Name: n, Network: at.networks[0].ref})
		}
	}
	res, err := methods.CreateImportSpec(ctx, c, &types.CreateImportSpec{
		This: *c.ServiceContent.OvfManager, OvfDescriptor: archive.descriptor, ResourcePool: at.pool, Datastore: store.ref, Cisp: &params,
	})
	if err != nil {
		return nil, nil, err
	}
	for _, e := range res.Returnval.Error {
		return nil, nil, fmt.Errorf("%s cannot be imported: %w: %w", archive.path, &taskError{e.Fault, e.LocalizedMessage}, providers.ErrInvalid)
	}
	spec, is := res.Returnval.ImportSpec.(*types.VirtualMachineImportSpec)
	if !is {
		return nil, nil, fmt.Errorf("%s holds several machines: %w", archive.path, providers.ErrInvalid)
	}
	return spec, res.Returnval.FileItem, nil
}

// fileSums remembers the sums of files that have not changed. The zero value knows none.
type fileSums struct {
	mu    sync.Mutex
	known map[string]fileSum
}

type fileSum struct {
	size     int64
	modified time.Time
	sum      string
}

// sum is the SHA-256 of a file. One caller at a time reads.
func (f *fileSums) sum(ctx context.Context, name string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("there is no file %s: %w", name, providers.ErrNotFound)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, providers.ErrInvalid)
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a file: %w", name, cmp.Or(err, providers.ErrInvalid))
	}
	if known, ok := f.known[name]; ok && known.size == info.Size() && known.modified.Equal(info.ModTime()) {
		return known.sum, nil
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, contextReader{ctx, file}); err != nil {
		return "", fmt.Errorf("cannot read %s: %w", name, err)
	}
	if f.known == nil {
		f.known = map[string]fileSum{}
	}
	f.known[name] = fileSum{info.Size(), info.ModTime(), hex.EncodeToString(hash.Sum(nil))}
	return f.known[name].sum, nil
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(data []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(data)
}
