package datasource

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// VMware are the guestinfo variables of a virtual machine: guestinfo.userdata and guestinfo.metadata, each with an
// encoding, as open-vm-tools' programs read them.
type VMware struct{ Machine }

// Name implements Source.
func (VMware) Name() string { return "vmware" }

// Fetch implements Source.
func (s VMware) Fetch(ctx context.Context) (Data, error) {
	if !strings.Contains(s.dmi("sys_vendor"), "VMware") {
		return Data{}, ErrNotHere
	}
	userData, hasUserData, err := s.variable(ctx, "userdata", maxUserData)
	if err != nil {
		return Data{}, err
	}
	meta, hasMeta, err := s.variable(ctx, "metadata", maxMetaData)
	if err != nil {
		return Data{}, err
	}
	if !hasUserData && !hasMeta {
		return Data{}, ErrNotHere
	}
	data, err := parseMetaData(meta)
	if err != nil {
		return Data{}, err
	}
	data.UserData = userData
	if data.InstanceID == "" {
		data.InstanceID, err = s.InstanceID()
	}
	return data, err
}

// variable reads guestinfo.NAME and decodes it.
func (s VMware) variable(ctx context.Context, name string, limit int64) (value []byte, ok bool, err error) {
	raw, err := s.get(ctx, "guestinfo."+name)
	if err != nil || len(raw) == 0 {
		return nil, false, err
	}
	encoding, err := s.get(ctx, "guestinfo."+name+".encoding")
	if err != nil {
		return nil, false, err
	}
	value, err = decodeGuestinfo(raw, strings.ToLower(strings.TrimSpace(string(encoding))), limit)
	if err != nil {
		return nil, false, fmt.Errorf("guestinfo.%s: %w", name, err)
	}
	return value, true, nil
}

// get asks for a variable with whichever program there is. One that is not set is empty.
func (s VMware) get(ctx context.Context, name string) ([]byte, error) {
	value, err := s.command(ctx, "vmware-rpctool", "info-get "+name)
	if errors.Is(err, exec.ErrNotFound) {
		value, err = s.command(ctx, "vmtoolsd", "--cmd", "info-get "+name)
	}
	var failed *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, ErrNotHere
	case errors.As(err, &failed): // "No value found"
		return nil, ctx.Err()
	case err != nil:
		return nil, err
	}
	value = bytes.TrimRight(value, "\n")
	if string(value) == "---" { // what cloud-init writes over a value that it has used
		return nil, nil
	}
	return value, nil
}

func decodeGuestinfo(raw []byte, encoding string, limit int64) ([]byte, error) {
	switch encoding {
	case "":
		return readAll(bytes.NewReader(raw), limit)
	case "base64", "b64", "gzip+base64", "gz+b64":
	default:
		return nil, fmt.Errorf("the encoding `%s` is not known", encoding)
	}
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(raw)), ""))
	if err != nil {
		return nil, errors.New("it is not base64")
	}
	if !strings.HasPrefix(encoding, "gz") {
		return readAll(bytes.NewReader(data), limit)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, errors.New("it is not gzip")
	}
	return readAll(r, limit)
}
