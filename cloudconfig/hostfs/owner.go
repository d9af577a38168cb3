package hostfs

import (
	"os/user"
	"strconv"
	"strings"
)

// Lookup finds the numbers of "user" or "user:group" among the machine's accounts; "" is root. A user without a group
// stands for its own group.
func Lookup(owner string) (*IDs, error) {
	if owner == "" {
		return &IDs{}, nil
	}
	name, group, hasGroup := strings.Cut(owner, ":")
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return nil, err
		}
	}
	gid := u.Gid
	if hasGroup {
		g, err := user.LookupGroup(group)
		if err != nil {
			if g, err = user.LookupGroupId(group); err != nil {
				return nil, err
			}
		}
		gid = g.Gid
	}
	var who IDs
	if who.User, err = strconv.Atoi(u.Uid); err != nil {
		return nil, err
	}
	who.Group, err = strconv.Atoi(gid)
	return &who, err
}
