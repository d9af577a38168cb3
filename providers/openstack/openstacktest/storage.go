package openstacktest

import (
	"maps"
	"slices"
	"strings"
)

type image struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Status     string `json:"status"`
	MinDisk    int    `json:"min_disk"`
	MinRAM     int    `json:"min_ram"`
	Visibility string `json:"visibility"`
}

type volume struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Status   string            `json:"status"`
	Size     int               `json:"size"`
	Type     string            `json:"volume_type"`
	Metadata map[string]string `json:"metadata"`
}

func (c *Cloud) imageRoutes() {
	c.route("GET /image/v2/images", (*request).listImages)
}

func (r *request) listImages() answer {
	query := r.URL.Query()
	var list []*image
	for _, id := range slices.Sorted(maps.Keys(r.c.images)) {
		i := r.c.images[id]
		if wanted := query.Get("id"); wanted != "" && !slices.Contains(strings.Split(strings.TrimPrefix(wanted, "in:"), ","), id) {
			continue
		}
		if wanted := query.Get("name"); wanted == "" || wanted == i.Name {
			list = append(list, i)
		}
	}
	return ok(objects("images", list))
}

func (c *Cloud) volumeRoutes() {
	c.route("GET /volume/v3/volumes/detail", (*request).listVolumes)
	c.route("GET /volume/v3/volumes/{id}", (*request).showVolume)
	c.route("PUT /volume/v3/volumes/{id}", (*request).updateVolume)
	c.route("DELETE /volume/v3/volumes/{id}", (*request).deleteVolume)
}

// listVolumes filters by metadata, which is asked for as a dictionary of Python.
func (r *request) listVolumes() answer {
	wanted := map[string]string{}
	for _, pair := range strings.Split(strings.Trim(r.URL.Query().Get("metadata"), "{}"), ",") {
		if key, value, isPair := strings.Cut(pair, ":"); isPair {
			wanted[strings.Trim(key, " '")] = strings.Trim(value, " '")
		}
	}
	var list []*volume
	for _, id := range slices.Sorted(maps.Keys(r.c.volumes)) {
		v := r.c.volumes[id]
		different := false
		for key, value := range wanted {
			different = different || v.Metadata[key] != value
		}
		if !different {
			list = append(list, v)
		}
	}
	return ok(objects("volumes", list))
}

func (r *request) showVolume() answer {
	v := r.c.volumes[r.PathValue("id")]
	if v == nil {
		return refuse(404, "Volume %s could not be found.", r.PathValue("id"))
	}
	return ok(object("volume", v))
}

func (r *request) updateVolume() answer {
	var body struct {
		Volume struct {
			Name     string            `json:"name"`
			Metadata map[string]string `json:"metadata"`
		} `json:"volume"`
	}
	if err := r.read(&body); err != nil {
		return refuse(400, "%v", err)
	}
	v := r.c.volumes[r.PathValue("id")]
	if v == nil {
		return refuse(404, "Volume %s could not be found.", r.PathValue("id"))
	}
	v.Name = body.Volume.Name
	maps.Copy(v.Metadata, body.Volume.Metadata)
	return ok(object("volume", v))
}

func (r *request) deleteVolume() answer {
	v := r.c.volumes[r.PathValue("id")]
	switch {
	case v == nil:
		return refuse(404, "Volume %s could not be found.", r.PathValue("id"))
	case v.Status == "in-use":
		return refuse(400, "Invalid volume: Volume status must be available or error")
	}
	delete(r.c.volumes, v.ID)
	return done(202, nil)
}
