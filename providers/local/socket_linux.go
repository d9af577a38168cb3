package local

// maxSocketPath is the longest path of a Unix socket: sun_path of unix(7), less the final NUL.
const maxSocketPath = 107
