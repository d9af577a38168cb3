// Package spec reads the cluster file: which providers there are, which hosts the cluster has, and which units run on
// them.
//
//	version: 1
//	cluster: demo              # a DNS label; names the state directory and tags
//	voters: 3                  # optional: 1, 3, 5 or 7; 3 if there are so many hosts, else 1
//	voter_grace: 5m            # optional, 5s to 24h, 0s for never: a voter silent for so long is replaced by another host
//	backups:                   # optional: backups of the records that every voter writes by itself
//	  every: 1h                # 10s to 720h, 0s for never
//	  keep: 24                 # the newest, of each voter's own
//	  dir: /var/lib/muster/backups # on their hosts
//	lease: 5s                  # optional, 2s to 10m: a host silent for so long is given up
//	network: {mode: direct}    # optional: hosts reach each other at their addresses
//	fleet:                     # optional: fleet's API beside the unix socket of every host; off by default
//	  listen: ":49153"         # over plain TCP, to programs of the host itself; 0.0.0.0:49153 to all. It asks nobody who
//	                           # they are, and who connects commands the cluster
//	  hosts_command: true      # voters take changes from hosts, as fleet did from every machine
//	update:                    # optional: how hosts take new releases, of which `muster help update` tells
//	  source: [https://releases.example.org/muster] # what `muster release` makes, on any server
//	  root: root.json          # by which everything from there is verified
//	  channel: stable          # or alpha, beta
//	  engine: agent            # or ab, dir, exec; else each host finds its own
//	  max: 2                   # hosts that may reboot at once; also interval, drain, health and allow_outage
//	  windows: ["Mon,Thu 23:00 2h Europe/Berlin"] # optional, when hosts may begin
//	  canaries: {ring: canary} # optional: hosts with these labels go first,
//	  soak: 24h                # and the others so long after all of them are well with it,
//	  per_hour: 10             # so many percent in an hour
//	  failures: 1              # optional, 0: on how many hosts a release may fail without the others stopping
//	musterd:                   # optional, how hosts get musterd: one of these. Without it their image has it
//	  fetch:                   # from URLs, checked against the sum
//	    - {arch: amd64, sha256: 9f86..., urls: [https://example.org/musterd-amd64]}
//	  serve: 10.0.0.1:8123     # from `muster up`, while it runs: an address of this machine that hosts reach
//	  push: {user: admin}      # from `muster up`, over SSH; also identity, known_hosts, port
//	providers:
//	  cloud-a:                 # a DNS label
//	    driver: local
//	    musterd: {ready: true} # optional, instead of what the file says of all; ready: the image has it
//	    ...                    # the driver's own configuration
//	hosts:
//	  node:                    # a group: hosts node-1, node-2, node-3
//	    count: 3               # optional, 1
//	    spread: [cloud-a, cloud-b]  # or provider: cloud-a
//	    labels: {role: web}    # optional, for placement
//	    voter: true            # optional: true or false; else muster chooses
//	    settings: {...}        # optional, the driver's settings of a host
//	    cloud_config: web.yaml # optional, merged into the hosts' first boot
//	  db:
//	    names: [anna, bert]    # instead of count: names of their own
//	    provider: cloud-a
//	units:
//	  - file: units/api@.service
//	    instances: 1..6        # of a template: a range, a name, or a list of them
//	    desired: launched      # optional: or loaded, or inactive
//	  - file: units/web@.service # a template without instances: its file says how many, Replicas=N below [X-Muster]
//
// Host i of a group is at the i-th provider of its spread, round robin, so that a change of count moves no host; a
// provider listed twice gets twice the hosts. With a spread, settings may be keyed by provider, and must be when the
// providers have different drivers: as soon as one key names a provider of the spread, all must. Values that are secret
// can stand elsewhere, as {env: NAME} or {file: path}. Relative paths start at the cluster file's directory.
//
// Parse is strict and tells everything that is wrong at once, with places and hints, in the files that the cluster file
// names too; what it returns is complete and needs no further check. It makes no remote call and does not know what
// exists, nor what is inside a unit file: whether a template without instances asks for replicas is for others to check.
package spec
