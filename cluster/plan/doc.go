// Package plan decides what has to be done so that what exists becomes what the cluster file says.
//
// Make is pure: the cluster file and what was observed go in, a Plan comes out, the same one whatever the order of the
// inputs. Applying a plan and planning again gives no change. A plan never ends an instance that the cluster file wants
// and that is healthy, and never takes a majority of the voters away at once. Every action has a reason in plain words.
//
// The package does not know how a host is made or joins; cluster/apply does.
//
// Two instances of one host may exist when somebody copied tags or a list was late. One is kept: a member of the cluster
// before another, then one that runs before one that is stopped, then the higher generation. The others are destroyed.
//
// A host's role is fixed when it joins. Making more or fewer voters therefore takes effect with hosts that are new or
// replaced; until then the plan warns.
package plan
