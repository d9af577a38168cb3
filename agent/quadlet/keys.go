package quadlet

// kind is how the values of a key are written (podman-systemd.unit(5)).
type kind int

const (
	text    kind = iota // one value, the last assignment counts
	texts               // a value for each assignment
	words               // several words for each assignment
	pairs               // words NAME=VALUE
	boolean             // yes or no
	command             // words, the last assignment counts
)

// key is one that [Container] may have. Flags are what the value stands behind; of a boolean without = at the end it is
// the flag itself, if the answer is yes. Keys without flags are read by name.
type key struct {
	name           string
	kind           kind
	podman, docker string
	check          func(value string) error // of a value without specifiers and variables; may be nil
	instead        string                   // what to do on docker, which has nothing like it; "" when it has
}

func both(name string, k kind, flag string, check func(string) error) key {
	return key{name: name, kind: k, podman: flag, docker: flag, check: check}
}

func podmanOnly(name string, k kind, flag string, check func(string) error) key {
	return key{name: name, kind: k, podman: flag, check: check, instead: onPodman}
}

const onPodman = "remove it, or write Engine=podman in [X-Muster]"

// keys are all of them, in the order of the flags.
var keys = []key{
	// What runs.
	{name: "Image", check: image},
	{name: "Rootfs", check: absolute, instead: "use Image="},
	{name: "Exec", kind: command},
	{name: "ContainerName", check: containerName},
	{name: "GlobalArgs", kind: words, instead: "remove it, these are podman's"},
	{name: "Notify", check: oneOf("yes", "no", "true", "false", "on", "off", "1", "0", "healthy")},
	{name: "ReloadCmd", kind: command},
	{name: "ReloadSignal", check: signal},
	{name: "User"},
	{name: "Group"},
	both("Entrypoint", text, "--entrypoint=", nil),
	both("Pull", text, "--pull=", oneOf("always", "missing", "never", "newer")),
	podmanOnly("Retry", text, "--retry=", number),
	podmanOnly("RetryDelay", text, "--retry-delay=", duration),
	both("RunInit", boolean, "--init=", nil),
	both("WorkingDir", text, "--workdir=", absolute),
	both("StopSignal", text, "--stop-signal=", signal),
	both("StopTimeout", text, "--stop-timeout=", number),
	{name: "Timezone", podman: "--tz=", instead: "use Environment=TZ="},
	{name: "ContainersConfModule", kind: texts, instead: onPodman},
	podmanOnly("CgroupsMode", text, "--cgroups=", oneOf("enabled", "disabled", "no-conmon", "split")),

	// What it sees.
	both("Environment", pairs, "--env=", assignment),
	both("EnvironmentFile", words, "--env-file=", absolute),
	{name: "EnvironmentHost", kind: boolean, podman: "--env-host=", instead: "use Environment="},
	both("Volume", texts, "--volume=", volume),
	both("Tmpfs", texts, "--tmpfs=", tmpfs),
	both("Mount", words, "--mount=", mount),
	{name: "Secret", kind: words, podman: "--secret=", instead: "use Volume= or EnvironmentFile=: docker has secrets in swarms only"},
	both("ReadOnly", boolean, "--read-only=", nil),
	{name: "ReadOnlyTmpfs", kind: boolean, podman: "--read-only-tmpfs=", instead: "use Tmpfs="},
	both("ShmSize", text, "--shm-size=", size),
	both("AddDevice", words, "--device=", device),
	both("Label", pairs, "--label=", nil),
	both("Annotation", pairs, "--annotation=", nil),

	// Its network.
	both("HostName", text, "--hostname=", nil),
	both("Network", texts, "--network=", network),
	both("NetworkAlias", texts, "--network-alias=", nil),
	both("PublishPort", texts, "--publish=", port),
	both("ExposeHostPort", texts, "--expose=", expose),
	both("IP", text, "--ip=", address),
	both("IP6", text, "--ip6=", address),
	both("DNS", texts, "--dns=", nil),
	both("DNSOption", texts, "--dns-option=", nil),
	both("DNSSearch", texts, "--dns-search=", nil),
	both("AddHost", texts, "--add-host=", nil),

	// What it may.
	podmanOnly("UserNS", text, "--userns=", nil),
	podmanOnly("UIDMap", words, "--uidmap=", nil),
	podmanOnly("GIDMap", words, "--gidmap=", nil),
	podmanOnly("SubUIDMap", text, "--subuidname=", nil),
	podmanOnly("SubGIDMap", text, "--subgidname=", nil),
	both("GroupAdd", texts, "--group-add=", nil),
	both("AddCapability", words, "--cap-add=", capability),
	both("DropCapability", words, "--cap-drop=", capability),
	both("NoNewPrivileges", boolean, "--security-opt=no-new-privileges", nil),
	both("SeccompProfile", text, "--security-opt=seccomp=", nil),
	both("SecurityLabelDisable", boolean, "--security-opt=label=disable", nil),
	both("SecurityLabelType", text, "--security-opt=label=type:", nil),
	both("SecurityLabelLevel", text, "--security-opt=label=level:", nil),
	podmanOnly("SecurityLabelFileType", text, "--security-opt=label=filetype:", nil),
	podmanOnly("SecurityLabelNested", boolean, "--security-opt=label=nested", nil),
	podmanOnly("Mask", words, "--security-opt=mask=", nil),
	podmanOnly("Unmask", words, "--security-opt=unmask=", nil),
	both("Sysctl", pairs, "--sysctl=", nil),
	both("Ulimit", texts, "--ulimit=", ulimit),
	both("Memory", text, "--memory=", size),
	both("PidsLimit", text, "--pids-limit=", limit),

	// How it does.
	both("LogDriver", text, "--log-driver=", nil),
	both("LogOpt", words, "--log-opt=", nil),
	both("HealthCmd", text, "--health-cmd=", nil),
	both("HealthInterval", text, "--health-interval=", interval),
	both("HealthRetries", text, "--health-retries=", number),
	both("HealthStartPeriod", text, "--health-start-period=", duration),
	both("HealthTimeout", text, "--health-timeout=", duration),
	{
		name: "HealthOnFailure", podman: "--health-on-failure=", check: onFailure,
		instead: "remove it: docker does nothing about a container that is not well",
	},
	podmanOnly("HealthStartupCmd", text, "--health-startup-cmd=", nil),
	podmanOnly("HealthStartupInterval", text, "--health-startup-interval=", interval),
	podmanOnly("HealthStartupRetries", text, "--health-startup-retries=", number),
	podmanOnly("HealthStartupSuccess", text, "--health-startup-success=", number),
	podmanOnly("HealthStartupTimeout", text, "--health-startup-timeout=", duration),
	podmanOnly("HealthLogDestination", text, "--health-log-destination=", nil),
	podmanOnly("HealthMaxLogCount", text, "--health-max-log-count=", number),
	podmanOnly("HealthMaxLogSize", text, "--health-max-log-size=", number),
	{name: "PodmanArgs", kind: words, instead: "remove it, these are podman's"},
}

// refused are keys that Quadlet knows and muster does not take, with what to do.
var refused = map[string]string{
	"AutoUpdate":   "remove it: a host that changes what it runs by itself leaves the cluster's word; submit the unit with another Image=",
	"Pod":          "muster has no pods; Network=container:NAME shares a network, MachineOf= in [X-Fleet] a host",
	"StartWithPod": "muster has no pods",
	"ServiceName":  "remove it: the service is called as the file",
	"RemapUsers":   "use UserNS=",
	"RemapUid":     "use UIDMap=",
	"RemapGid":     "use GIDMap=",
	"RemapUidSize": "use UserNS=auto:size=",
	"VolatileTmp":  "use Tmpfs=/tmp",

	"SocketActivated": "remove it: sockets of a .socket unit are passed on anyway",
}

// otherSections are Quadlet's besides [Container], with what to do in a unit of a container.
var otherSections = map[string]string{
	"Pod": "muster has no pods", "Kube": "write a .container file for each container",
	"Volume":  "name a volume in Volume=, which makes it, or make it with a service of Type=oneshot and podman volume create",
	"Network": "make the network with a service of Type=oneshot and podman network create",
	"Image":   "use Image= and Pull= of [Container]", "Build": "build the image elsewhere, and name it in Image=",
	"Quadlet": "remove it: muster adds no dependencies on the network, which is up when it starts units",
}

// ours are settings of [Service] that the rendered service has of its own, with what to do.
var ours = map[string]string{
	"ExecStart": "use Exec= of [Container]", "ExecStop": "use StopSignal= and StopTimeout= of [Container], or ExecStopPost=",
	"User": "use User= of [Container]", "Group": "use Group= of [Container]", "DynamicUser": "use UserNS=auto of [Container]",
	"NotifyAccess": "remove it", "BusName": "remove it", "PIDFile": "remove it",
	"Delegate": "remove it: the engine gets what it needs", "KillMode": "use StopSignal= and StopTimeout= of [Container]",
	"KillSignal": "use StopSignal= of [Container]",
}
