package hcloudtest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hetznercloud/hcloud-go/v2/hcloud/schema"
)

// seed fills what the project did not make.
func (c *Cloud) seed() {
	for _, name := range strings.Fields(Locations + " ash") {
		zone := "eu-central"
		if name == "ash" {
			zone = "us-east"
		}
		c.locations = append(c.locations, schema.Location{ID: c.id(), Name: name, NetworkZone: zone})
	}
	for _, each := range []struct{ name, arch, price string }{
		{ServerType, "x86", "3.4900"}, {"cpx31", "x86", "13.1000"}, {ArmType, "arm", "3.7900"},
	} {
		kind := schema.ServerType{ID: c.id(), Name: each.name, Cores: 2, Memory: 4, Disk: 40, Architecture: each.arch}
		for _, at := range c.locations {
			kind.Prices = append(kind.Prices, schema.PricingServerTypePrice{Location: at.Name, PriceMonthly: schema.Price{Net: each.price, Gross: each.price}})
			kind.Locations = append(kind.Locations, schema.ServerTypeLocation{ID: at.ID, Name: at.Name, Available: at.Name != "ash"})
		}
		c.types = append(c.types, kind)
	}
	for _, arch := range []string{"x86", "arm"} {
		for _, name := range []string{Image, "debian-12", "ubuntu-24.04"} {
			c.addImage("system", name, arch, 5, nil)
		}
	}
	c.networks = []schema.Network{{
		ID: c.id(), Name: Network, IPRange: "10.0.0.0/8", Subnets: []schema.NetworkSubnet{{Type: "cloud", IPRange: "10.0.0.0/16", NetworkZone: "eu-central"}},
	}}
	c.keys = []schema.SSHKey{{ID: c.id(), Name: Key}, {ID: c.id(), Name: "desktop"}}
}

func (c *Cloud) addImage(kind, name, arch string, disk float32, labels map[string]string) int64 {
	created := time.Now()
	image := schema.Image{
		ID: c.id(), Status: "available", Type: kind, Description: kind, DiskSize: disk, Architecture: arch, Labels: labels, Created: &created,
	}
	if name != "" {
		image.Name, image.Description = &name, name
	}
	c.images = append(c.images, image)
	return image.ID
}

// AddSnapshot adds a snapshot with labels, for hosts of x86, whose disk has so many GB.
func (c *Cloud) AddSnapshot(disk float32, labels map[string]string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addImage("snapshot", "", "x86", disk, labels)
}

func (c *Cloud) catalogRoutes() {
	c.handle("GET /v1/images", func(r *http.Request) (int, any, *refusal) {
		q, refused := readQuery(r, "name", "type", "status", "architecture")
		if refused != nil {
			return 0, nil, refused
		}
		all := []item{}
		for _, each := range c.images {
			if q.wants("type", each.Type) && q.wants("status", each.Status) && q.wants("architecture", each.Architecture) {
				name := ""
				if each.Name != nil {
					name = *each.Name
				}
				all = append(all, item{id: each.ID, name: name, labels: each.Labels, shown: each})
			}
		}
		return c.list("images", q, all)
	})
	catalog(c, "server_types", &c.types, func(t schema.ServerType) item { return item{id: t.ID, name: t.Name, shown: t} })
	catalog(c, "locations", &c.locations, func(l schema.Location) item { return item{id: l.ID, name: l.Name, shown: l} })
	catalog(c, "networks", &c.networks, func(n schema.Network) item { return item{id: n.ID, name: n.Name, shown: n} })
	catalog(c, "ssh_keys", &c.keys, func(k schema.SSHKey) item { return item{id: k.ID, name: k.Name, shown: k} })
	c.handle("GET /v1/pricing", func(*http.Request) (int, any, *refusal) {
		prices := schema.Pricing{Currency: "EUR", VATRate: "0.00"}
		for _, each := range c.types {
			prices.ServerTypes = append(prices.ServerTypes, schema.PricingServerType{ID: each.ID, Name: each.Name, Prices: each.Prices})
		}
		prices.PrimaryIPs = []schema.PricingPrimaryIP{{Type: "ipv4", Prices: []schema.PricingPrimaryIPTypePrice{
			{Location: "fsn1", PriceMonthly: schema.Price{Net: "0.5000", Gross: "0.5000"}},
		}}}
		return http.StatusOK, map[string]any{"pricing": prices}, nil
	})
}

// wants tells whether a filter is not given or has the value.
func (q *query) wants(filter, value string) bool {
	return !q.params.Has(filter) || slices.Contains(q.params[filter], value)
}

// catalog adds the call that lists what does not change.
func catalog[T any](c *Cloud, key string, of *[]T, show func(T) item) {
	c.handle("GET /v1/"+key, func(r *http.Request) (int, any, *refusal) {
		q, refused := readQuery(r, "name")
		if refused != nil {
			return 0, nil, refused
		}
		all := []item{}
		for _, each := range *of {
			all = append(all, show(each))
		}
		return c.list(key, q, all)
	})
}

// lookup finds what a request names by name or ID.
func lookup[T any](all []T, what schema.IDOrName, key func(T) (int64, string)) *T {
	for i := range all {
		id, name := key(all[i])
		if what.ID != 0 && id == what.ID || what.ID == 0 && name != "" && name == what.Name {
			return &all[i]
		}
	}
	return nil
}

func number(text string) schema.IDOrName {
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return schema.IDOrName{Name: text}
	}
	return schema.IDOrName{ID: id}
}
