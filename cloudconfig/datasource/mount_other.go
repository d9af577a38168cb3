//go:build !linux

package datasource

import "errors"

func mount(_, _, _ string) (string, func() error, error) {
	return "", nil, errors.New("only Linux can mount a data source")
}
