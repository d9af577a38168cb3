//go:build !linux

package firstboot

import "errors"

func (machine) SetHostname(string) error { return errors.New("only Linux is supported") }

func lockAccounts(string) (func(), error) { return func() {}, nil }

// console is the machine's console, which is known on Linux only.
type console struct{}

func (console) Write(text []byte) (int, error) { return len(text), nil }
