// Package quadlet makes services of Quadlet's container units: files NAME.container with a section [Container], as
// podman-systemd.unit(5) has them. The cluster keeps such a unit as it was written, under the name NAME.service; each host
// renders it for the engine that it has, podman or docker, just before its runtime gets it.
//
// It guarantees that whatever of Quadlet is not supported is refused with its line and with what to do instead, and
// nothing is dropped in silence; that a rendered command line, read as systemd reads it, is word for word what the file
// says, specifiers and variables untouched; and that the order of flags is always the same. It is pure: it knows no host,
// no image and no engine's state. What it knows of keys is podman 5.4's, of docker's flags those of 28.
package quadlet
