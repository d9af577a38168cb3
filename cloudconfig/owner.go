package cloudconfig

import (
	"os/user"
	"strconv"
	"strings"
)

// ids are the numbers of an owner.
type ids struct{ user, group int }

// lookup finds the numbers of "user" or "user:group"; "" is root. A user without a group stands for its own group.
func lookup(owner string) (*ids, error) {
	if owner == "" {
		return &ids{}, nil
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
	var who ids
	if who.user, err = strconv.Atoi(u.Uid); err != nil {
		return nil, err
	}
	who.group, err = strconv.Atoi(gid)
	return &who, err
}
