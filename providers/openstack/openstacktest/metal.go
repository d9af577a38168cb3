package openstacktest

import "time"

type node struct {
	UUID          string
	Name          string
	ResourceClass string
	Provision     string
	Power         string
}

type allocation struct {
	UUID string
}

func (c *Cloud) metalRoutes() {}

func (c *Cloud) advanceNodes(time.Time) {}
