package ignition

// These are the parts of Ignition's configuration, specification 3.4.0, that a cloud-config can become
// (https://coreos.github.io/ignition/configuration-v3_4/). The project's own types keep the daemon's and the CLI's
// dependencies small; a test has Ignition's own package read what they give.
type config struct {
	Ignition version  `json:"ignition"`
	Passwd   *passwd  `json:"passwd,omitempty"`
	Storage  *storage `json:"storage,omitempty"`
	Systemd  *systemd `json:"systemd,omitempty"`
}

type version struct {
	Version string `json:"version"`
}

type passwd struct {
	Groups []group `json:"groups,omitempty"`
	Users  []user  `json:"users,omitempty"`
}

type group struct {
	Name string `json:"name"`
}

type user struct {
	Name              string   `json:"name"`
	Gecos             string   `json:"gecos,omitempty"`
	Groups            []string `json:"groups,omitempty"`
	HomeDir           string   `json:"homeDir,omitempty"`
	NoCreateHome      bool     `json:"noCreateHome,omitempty"`
	NoLogInit         bool     `json:"noLogInit,omitempty"`
	NoUserGroup       bool     `json:"noUserGroup,omitempty"`
	PasswordHash      string   `json:"passwordHash,omitempty"`
	PrimaryGroup      string   `json:"primaryGroup,omitempty"`
	SSHAuthorizedKeys []string `json:"sshAuthorizedKeys,omitempty"`
	Shell             string   `json:"shell,omitempty"`
	System            bool     `json:"system,omitempty"`
	UID               *int     `json:"uid,omitempty"`
}

type storage struct {
	Files []file `json:"files,omitempty"`
}

type file struct {
	Path      string   `json:"path"`
	Overwrite bool     `json:"overwrite"`
	Mode      int      `json:"mode"`
	User      *owner   `json:"user,omitempty"`
	Group     *owner   `json:"group,omitempty"`
	Contents  contents `json:"contents"`
}

type owner struct {
	Name string `json:"name,omitempty"`
	ID   *int   `json:"id,omitempty"`
}

type contents struct {
	Compression string `json:"compression,omitempty"`
	Source      string `json:"source"`
}

type systemd struct {
	Units []unit `json:"units,omitempty"`
}

type unit struct {
	Name     string   `json:"name"`
	Enabled  *bool    `json:"enabled,omitempty"`
	Mask     bool     `json:"mask,omitempty"`
	Contents string   `json:"contents,omitempty"`
	Dropins  []dropin `json:"dropins,omitempty"`
}

type dropin struct {
	Name     string `json:"name"`
	Contents string `json:"contents,omitempty"`
}
