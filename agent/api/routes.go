package api

import (
	"net/http"

	"github.com/musterhq/muster/cluster/join"
)

// Groups of roles in the table of routes.
const (
	members = Host | Voter | Operator // whoever belongs to the cluster
	admins  = Voter | Operator
)

// route is one row of the API: what is called, who may call it, and whether it needs a voter.
type route struct {
	method  string
	path    string
	roles   Role // bits
	voter   bool // changes the cluster: agents that do not vote answer 421
	long    bool // bounds its body and its time itself
	fleet   bool // hosts may use it too where they may command (Server.HostsCommand)
	handler func(*Server, http.ResponseWriter, *http.Request, Caller) error
}

// FleetPath is where fleet's API is among the agent's own.
const FleetPath = "/fleet/v1/"

// FleetLockPath is where FleetLock is: the base URL of a client is https://HOST:7400/fleetlock.
const FleetLockPath = "/fleetlock/"

// KeysPath is where the applications' keys are, as etcd's API v2 has them.
const KeysPath = "/v2/keys/"

// routes is the whole API. Nothing else is served, and nothing is allowed that does not stand here. The join has a
// handler of its own (cluster/join) and is added to it.
var routes = []route{
	{method: "GET", path: "/v1/status", roles: members | Socket, handler: (*Server).getStatus},
	{method: "GET", path: "/v1/units", roles: members | Socket, handler: (*Server).getUnits},
	{method: "GET", path: "/v1/units/{name}", roles: members, handler: (*Server).getUnit},
	{method: "PUT", path: "/v1/units/{name}", roles: admins, voter: true, fleet: true, handler: (*Server).putUnit},
	{method: "DELETE", path: "/v1/units/{name}", roles: admins, voter: true, fleet: true, handler: (*Server).deleteUnit},
	{method: "GET", path: "/v1/units/{name}/why", roles: members, handler: (*Server).getWhy},
	{method: "GET", path: "/v1/units/{name}/logs", roles: admins, handler: (*Server).getLogs},
	{method: "POST", path: "/v1/units/{name}/reload", roles: admins, handler: (*Server).postReload},
	{method: "POST", path: "/v1/rollouts/{name}/{verb}", roles: admins, voter: true, handler: (*Server).postRollout},
	{method: "POST", path: "/v1/tokens", roles: admins, voter: true, handler: (*Server).postToken},
	{method: "DELETE", path: "/v1/hosts/{id}", roles: admins, voter: true, handler: (*Server).deleteHost},
	{method: "PUT", path: "/v1/hosts/{id}/labels", roles: admins, voter: true, handler: (*Server).putLabels},
	{method: "PATCH", path: "/v1/hosts/{id}/labels", roles: admins, voter: true, fleet: true, handler: (*Server).patchLabels},
	{method: "PUT", path: "/v1/hosts/{id}/order", roles: admins, voter: true, handler: (*Server).putOrder},
	{method: "PUT", path: "/v1/hosts/{id}/seat", roles: admins, voter: true, handler: (*Server).putSeat},
	{method: "GET", path: "/v1/seat", roles: Host, voter: true, handler: (*Server).getSeat},
	{method: "POST", path: "/v1/seat", roles: Host, voter: true, handler: (*Server).postSeat},
	{method: "GET", path: "/v1/rebalance", roles: members, handler: (*Server).getRebalance},
	{method: "POST", path: "/v1/rebalance", roles: admins, voter: true, handler: (*Server).postRebalance},
	{method: "GET", path: "/v1/locks", roles: members, handler: (*Server).getLocks},
	{method: "POST", path: "/v1/locks/{group}/{verb}", roles: admins, voter: true, handler: (*Server).postLock},
	{method: "PUT", path: "/v1/locks/{group}/semaphore", roles: members, voter: true, handler: (*Server).putLock},
	{method: "POST", path: FleetLockPath + "{rest...}", roles: members, voter: true, handler: (*Server).fleetLock},
	{method: "GET", path: "/v1/update", roles: members, handler: (*Server).getUpdate},
	{method: "POST", path: "/v1/update/{verb}", roles: admins, voter: true, handler: (*Server).postUpdate},
	{method: "PUT", path: "/v1/settings", roles: admins, voter: true, handler: (*Server).putSettings},
	{method: "GET", path: "/v1/backup", roles: admins, voter: true, long: true, handler: (*Server).getBackup},
	{method: "POST", path: "/v1/restore", roles: Operator, long: true, handler: (*Server).postRestore},
	{method: "POST", path: "/v1/renew", roles: Anonymous | Host | Voter, voter: true, handler: (*Server).postRenew},
	{method: "POST", path: join.Path, roles: Anonymous, voter: true, handler: (*Server).postJoin},
	{method: "GET", path: "/v1/health", roles: members, handler: (*Server).getHealth},
	{method: "GET", path: FleetPath + "{rest...}", roles: members, handler: (*Server).fleetAPI},
	{method: "PUT", path: FleetPath + "{rest...}", roles: admins, voter: true, handler: (*Server).fleetAPI},
	{method: "PATCH", path: FleetPath + "{rest...}", roles: admins, voter: true, handler: (*Server).fleetAPI},
	{method: "DELETE", path: FleetPath + "{rest...}", roles: admins, voter: true, handler: (*Server).fleetAPI},
	{method: "GET", path: KeysPath + "{rest...}", roles: admins, handler: (*Server).keysAPI},
	{method: "PUT", path: KeysPath + "{rest...}", roles: admins, handler: (*Server).keysAPI},
	{method: "DELETE", path: KeysPath + "{rest...}", roles: admins, handler: (*Server).keysAPI},
}

// allows reports whether a caller may use the route.
func (rt route) allows(r Role) bool { return rt.roles&r != 0 }
