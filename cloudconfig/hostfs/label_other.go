//go:build !linux

package hostfs

func (r *Root) label(name, temporary string) {}
