//go:build !linux

package firstboot

import "errors"

func (machine) SetHostname(string) error { return errors.New("only Linux is supported") }

func lockAccounts(string) (func(), error) { return func() {}, nil }
