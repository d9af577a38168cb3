package cloudconfig

import (
	"maps"
	"slices"
	"strings"

	"github.com/musterhq/muster/cloudconfig/secret"
)

// Masked is the document for people to look at: password hashes, contents of files that others may not read, and passwords
// among the options of daemons are secret.Mask. Commands are shown, as every process of the host sees them. The document
// is not changed.
func (d Document) Masked() Document {
	d.Users = slices.Clone(d.Users)
	for i := range d.Users {
		if !d.Users[i].Passwd.IsZero() {
			d.Users[i].Passwd = secret.New(secret.Mask)
		}
	}
	d.WriteFiles = slices.Clone(d.WriteFiles)
	for i, f := range d.WriteFiles {
		if mode, err := f.Permissions.Mode(); f.Content != "" && (err != nil || mode&0o004 == 0) {
			d.WriteFiles[i].Content, d.WriteFiles[i].Encoding = secret.Mask, Plain
		}
	}
	for _, options := range []*Options{&d.CoreOS.Etcd, &d.CoreOS.Etcd2, &d.CoreOS.Fleet, &d.CoreOS.Locksmith, &d.CoreOS.Flannel} {
		*options = maps.Clone(*options)
		for name := range *options {
			if isPassword(name) {
				(*options)[name] = secret.Mask
			}
		}
	}
	return d
}

// isPassword reports whether an option of a daemon is secret.
func isPassword(option string) bool { return strings.Contains(option, "password") }
