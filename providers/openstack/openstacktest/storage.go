package openstacktest

import (
	"crypto/sha512"
	"encoding/hex"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
)

type image struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Status     string `json:"status"`
	MinDisk    int    `json:"min_disk"`
	MinRAM     int    `json:"min_ram"`
	Visibility string `json:"visibility"`
	Size       int64  `json:"size"`
	Algorithm  string `json:"os_hash_algo,omitempty"`
	Sum        string `json:"os_hash_value,omitempty"`
	Title      string `json:"muster_name,omitempty"`
	Owner      string `json:"owner"`
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
	c.route("GET /image/v2/images/{id}", (*request).showImage)
	c.route("POST /image/v2/images", (*request).createImage)
	c.route("DELETE /image/v2/images/{id}", (*request).deleteImage)
	c.stream("PUT /image/v2/images/{id}/file", (*request).fillImage)
}

func (r *request) showImage() answer {
	i := r.c.images[r.PathValue("id")]
	if i == nil {
		return refuse(404, "No image found with ID %s", r.PathValue("id"))
	}
	return ok(i)
}

func (r *request) createImage() answer {
	var body struct {
		Name       string `json:"name"`
		Container  string `json:"container_format"`
		Format     string `json:"disk_format"`
		Visibility string `json:"visibility"`
		Title      string `json:"muster_name"`
	}
	if err := r.read(&body); err != nil || body.Container != "bare" || !slices.Contains([]string{"raw", "qcow2"}, body.Format) {
		return refuse(400, "%v", err)
	}
	i := &image{ID: uuid.NewString(), Name: body.Name, Status: "queued", Visibility: body.Visibility, Title: body.Title, Owner: Project}
	r.c.images[i.ID] = i
	return done(201, i)
}

func (r *request) deleteImage() answer {
	if r.c.images[r.PathValue("id")] == nil {
		return refuse(404, "Failed to find image %s to delete", r.PathValue("id"))
	}
	delete(r.c.images, r.PathValue("id"))
	return done(204, nil)
}

// fillImage takes the contents of an image. Whose connection ends leaves it queued. The cloud is not locked.
func (r *request) fillImage() answer {
	c := r.c
	c.mu.Lock()
	i := c.images[r.PathValue("id")]
	if i == nil {
		c.mu.Unlock()
		return refuse(404, "No image found with ID %s", r.PathValue("id"))
	}
	if i.Status != "queued" {
		c.mu.Unlock()
		return refuse(409, "Image status transition to saving is not allowed")
	}
	i.Status = "saving"
	c.mu.Unlock()
	sum := sha512.New()
	size, err := io.Copy(sum, r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		i.Status = "queued"
		return refuse(400, "%v", err)
	}
	i.Status, i.Size, i.Algorithm, i.Sum = "active", size, "sha512", hex.EncodeToString(sum.Sum(nil))
	return done(204, nil)
}

func (r *request) listImages() answer {
	query := r.URL.Query()
	var list []*image
	for _, id := range slices.Sorted(maps.Keys(r.c.images)) {
		i := r.c.images[id]
		if wanted := query.Get("id"); wanted != "" && !slices.Contains(strings.Split(strings.TrimPrefix(wanted, "in:"), ","), id) {
			continue
		}
		if wanted := query.Get("owner"); wanted != "" && wanted != i.Owner {
			continue
		}
		if wanted := query.Get("name"); wanted == "" || wanted == i.Name {
			list = append(list, i)
		}
	}
	return ok(objects("images", list))
}

func (c *Cloud) volumeRoutes() {
	c.route("GET /volume/v3/limits", (*request).volumeLimits)
	c.route("GET /volume/v3/types", (*request).listVolumeTypes)
	c.route("GET /volume/v3/volumes/detail", (*request).listVolumes)
	c.route("GET /volume/v3/volumes/{id}", (*request).showVolume)
	c.route("PUT /volume/v3/volumes/{id}", (*request).updateVolume)
	c.route("DELETE /volume/v3/volumes/{id}", (*request).deleteVolume)
}

func (r *request) volumeLimits() answer {
	gigabytes := 0
	for _, v := range r.c.volumes {
		gigabytes += v.Size
	}
	return ok(object("limits", map[string]any{"rate": []any{}, "absolute": map[string]any{
		"maxTotalVolumes": r.c.limit("volumes"), "totalVolumesUsed": len(r.c.volumes),
		"maxTotalVolumeGigabytes": r.c.limit("gigabytes"), "totalGigabytesUsed": gigabytes,
	}}))
}

func (r *request) listVolumeTypes() answer {
	var list []any
	for _, name := range strings.Fields(VolumeTypes) {
		list = append(list, map[string]any{"id": "type-" + name, "name": name, "is_public": true})
	}
	return ok(objects("volume_types", list))
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
