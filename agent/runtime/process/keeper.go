package process

// The scripts below run in any POSIX shell. They see these descriptors:
//
//	1, 2  keeper: /dev/null, so that what a shell says of dead children stays out of the log
//	3     the new process reports its ID to the agent
//	4     the agent sends when it is too late to start (unit.limit) and the line for starts.jsonl, or closes it
//	5     starts.jsonl
//	6     the file with the second choice of the exit status
//	7     the log
const (
	fdReport = 3 + iota
	fdGo
	fdStarts
	fdExit
	fdLog
)

// keeperName is what keepers call themselves.
const keeperName = "muster-keeper"

// keeperScript starts the process and stays its parent. Its arguments are the shell, the script of the new process and
// the command. Signals that the command may send to its whole group are caught rather than ignored, because ignored
// ones would stay ignored in the command. Variables have names that no unit uses: assigning to one that came with the
// environment would change the command's.
const keeperScript = `
trap : HUP INT QUIT USR1 USR2 PIPE ALRM TERM
_muster_sh=$1 _muster_script=$2
shift 2
"$_muster_sh" -c "$_muster_script" muster-start "$$" "$@"
echo "$?" >&6
`

// startScript becomes the command, once the agent has written down that it will, and once the keeper is stopped:
// before, the keeper could collect the exit status of a command that ends at once. Systems without /proc go on with a
// keeper that is awake.
const startScript = `
_muster_keeper=$1
shift
echo "$$" >&3
IFS= read -r _muster_line <&4 || { echo aborted >&6; exit 1; }
if [ -r "/proc/$_muster_keeper/stat" ]; then
	kill -STOP "$_muster_keeper"
	while read -r _muster_stat <"/proc/$_muster_keeper/stat"; do
		case $_muster_stat in *") "[TtZXx]" "*) break ;; esac
	done
fi
_muster_limit=${_muster_line%%" "*} _muster_line=${_muster_line#*" "}
if [ "$_muster_limit" -gt 0 ]; then
	read -r _muster_now _muster_idle </proc/uptime || exit 203
	[ "${_muster_now%.*}${_muster_now#*.}" -lt "$_muster_limit" ] || exit 203
fi
[ -z "$_muster_line" ] || printf '%s\n' "$_muster_line" >&5
exec >&7 2>&7 3>&- 4>&- 5>&- 6>&- 7>&-
exec "$@"
`
