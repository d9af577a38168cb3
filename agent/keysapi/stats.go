package keysapi

import (
	"sync/atomic"

	"github.com/musterhq/muster/agent/keys"
)

// tally counts an operation's successes and failures.
type tally struct{ good, bad atomic.Int64 }

// counters are what this server has answered since it began.
type counters struct {
	get, set, create, update, swap, remove, compareDelete tally

	watchers atomic.Int64
}

// action is what a write would be if it succeeded.
func action(w keys.Write) string {
	compares := w.PrevValue != "" || w.PrevIndex != 0
	switch {
	case w.Kind == keys.Delete && compares:
		return keys.ActionCompareAndDelete
	case w.Kind == keys.Delete:
		return keys.ActionDelete
	case w.Kind == keys.Post || w.PrevExist != nil && !*w.PrevExist:
		return keys.ActionCreate
	case compares:
		return keys.ActionCompareAndSwap
	case w.PrevExist != nil:
		return keys.ActionUpdate
	}
	return keys.ActionSet
}

func (c *counters) count(action string, err error) {
	t := c.of(action)
	if err != nil {
		t.bad.Add(1)
	} else {
		t.good.Add(1)
	}
}

func (c *counters) of(action string) *tally {
	switch action {
	case keys.ActionSet:
		return &c.set
	case keys.ActionCreate:
		return &c.create
	case keys.ActionUpdate:
		return &c.update
	case keys.ActionCompareAndSwap:
		return &c.swap
	case keys.ActionDelete:
		return &c.remove
	case keys.ActionCompareAndDelete:
		return &c.compareDelete
	}
	return &c.get
}

// storeStats is /v2/stats/store.
type storeStats struct {
	GetsSuccess             int64 `json:"getsSuccess"`
	GetsFail                int64 `json:"getsFail"`
	SetsSuccess             int64 `json:"setsSuccess"`
	SetsFail                int64 `json:"setsFail"`
	DeleteSuccess           int64 `json:"deleteSuccess"`
	DeleteFail              int64 `json:"deleteFail"`
	UpdateSuccess           int64 `json:"updateSuccess"`
	UpdateFail              int64 `json:"updateFail"`
	CreateSuccess           int64 `json:"createSuccess"`
	CreateFail              int64 `json:"createFail"`
	CompareAndSwapSuccess   int64 `json:"compareAndSwapSuccess"`
	CompareAndSwapFail      int64 `json:"compareAndSwapFail"`
	CompareAndDeleteSuccess int64 `json:"compareAndDeleteSuccess"`
	CompareAndDeleteFail    int64 `json:"compareAndDeleteFail"`
	ExpireCount             int64 `json:"expireCount"` // always 0: leases are the store's
	Watchers                int64 `json:"watchers"`
}

func (c *counters) snapshot() storeStats {
	return storeStats{
		GetsSuccess: c.get.good.Load(), GetsFail: c.get.bad.Load(),
		SetsSuccess: c.set.good.Load(), SetsFail: c.set.bad.Load(),
		DeleteSuccess: c.remove.good.Load(), DeleteFail: c.remove.bad.Load(),
		UpdateSuccess: c.update.good.Load(), UpdateFail: c.update.bad.Load(),
		CreateSuccess: c.create.good.Load(), CreateFail: c.create.bad.Load(),
		CompareAndSwapSuccess: c.swap.good.Load(), CompareAndSwapFail: c.swap.bad.Load(),
		CompareAndDeleteSuccess: c.compareDelete.good.Load(), CompareAndDeleteFail: c.compareDelete.bad.Load(),
		Watchers: c.watchers.Load(),
	}
}
