package vsphere

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/vapi/library"
	"github.com/vmware/govmomi/vapi/rest"
	_ "github.com/vmware/govmomi/vapi/simulator" // content libraries
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/musterhq/muster/providers"
)

// descriptor is the OVF of a machine with one disk and one interface.
const descriptor = `<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
  xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
  xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData">
  <References><File ovf:href="disk.img" ovf:id="file1" ovf:size="64"/></References>
  <DiskSection><Info>disks</Info>
    <Disk ovf:capacity="1" ovf:capacityAllocationUnits="byte * 2^30" ovf:diskId="disk1" ovf:fileRef="file1"/>
  </DiskSection>
  <NetworkSection><Info>networks</Info><Network ovf:name="bridged"><Description>a network</Description></Network></NetworkSection>
  <VirtualSystem ovf:id="vm"><Info>machine</Info><Name>tiny</Name>
    <OperatingSystemSection ovf:id="96"><Info>os</Info></OperatingSystemSection>
    <VirtualHardwareSection><Info>hardware</Info>
      <System><vssd:ElementName>family</vssd:ElementName><vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType></System>
      <Item><rasd:ElementName>1 CPU</rasd:ElementName><rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
      <Item><rasd:ElementName>64 MB</rasd:ElementName><rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>
      <Item><rasd:ElementName>SCSI</rasd:ElementName><rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>VirtualSCSI</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
      <Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:ElementName>disk</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/disk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType></Item>
      <Item><rasd:Connection>bridged</rasd:Connection><rasd:ElementName>net</rasd:ElementName><rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>VmxNet3</rasd:ResourceSubType><rasd:ResourceType>10</rasd:ResourceType></Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`

// tinyOVA writes an OVA and returns its path and sum.
func tinyOVA(t *testing.T) (file, sum string) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, each := range []struct{ name, content string }{{"tiny.ovf", descriptor}, {"disk.img", strings.Repeat("disk", 16)}} {
		err := w.WriteHeader(&tar.Header{Name: each.name, Mode: 0o600, Size: int64(len(each.content))})
		if err == nil {
			_, err = w.Write([]byte(each.content))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "tiny.ova")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(b.Bytes())
	return file, hex.EncodeToString(digest[:])
}

// library makes a content library with the item images/tiny.
func (s *vcsim) library() {
	s.t.Helper()
	s.admin(func(ctx context.Context, c *client) error {
		p := s.own
		inv, err := p.inventory(ctx, c)
		if err != nil {
			return err
		}
		store := inv.of(kindDatastore)[0]
		return c.withREST(ctx, func(rc *rest.Client) error {
			m := library.NewManager(rc)
			lib, err := m.CreateLibrary(ctx, library.Library{
				Name: "images", Type: "LOCAL", Storage: []library.StorageBacking{{DatastoreID: store.ref.Value, Type: "DATASTORE"}},
			})
			if err != nil {
				return err
			}
			item, err := m.CreateLibraryItem(ctx, library.Item{Name: "tiny", Type: library.ItemTypeOVF, LibraryID: lib})
			if err != nil {
				return err
			}
			session, err := m.CreateLibraryItemUpdateSession(ctx, library.Session{LibraryItemID: item})
			if err != nil {
				return err
			}
			for name, content := range map[string]string{"tiny.ovf": descriptor, "disk.img": "disk"} {
				update, err := m.AddLibraryItemFile(ctx, session, library.UpdateFile{Name: name, SourceType: "PUSH", Size: int64(len(content))})
				if err != nil {
					return err
				}
				u, err := rc.ParseURL(update.UploadEndpoint.URI)
				if err != nil {
					return err
				}
				if err := rc.Upload(ctx, strings.NewReader(content), u, &soap.Upload{Method: "PUT", ContentLength: int64(len(content))}); err != nil {
					return err
				}
			}
			return m.CompleteLibraryItemUpdateSession(ctx, session)
		})
	})
}

// images are the owner's imported machines.
func (s *vcsim) images(cluster string) (list []machine) {
	s.admin(func(ctx context.Context, c *client) error {
		p := s.own
		all, err := p.machines(ctx, c)
		for _, m := range all {
			if strings.HasPrefix(m.name, p.owner(cluster).imagePrefix()) {
				list = append(list, m)
			}
		}
		return err
	})
	return list
}

// TestImageIsImportedOnce lets two processes make hosts of an OVA and of a library item at the same time.
func TestImageIsImportedOnce(t *testing.T) {
	file, sum := tinyOVA(t)
	for name, each := range map[string]struct {
		esxi bool
		set  func(*Settings)
	}{
		"OVA at a vCenter": {false, func(s *Settings) { s.OVA, s.SHA256 = file, sum }},
		"OVA at an ESXi":   {true, func(s *Settings) { s.OVA = file }},
		"linked clones":    {false, func(s *Settings) { s.OVA, s.Linked = file, true }},
		"library item":     {false, func(s *Settings) { s.Library = "images/tiny" }},
	} {
		t.Run(name, func(t *testing.T) {
			sim := newVCSim(t, each.esxi)
			if !each.esxi {
				sim.library()
			}
			settings := NewSettings()
			each.set(settings)
			handles := []*Provider{sim.open(nil), sim.open(nil)}
			var group sync.WaitGroup
			for i, host := range []string{"web-1", "web-2", "web-3", "web-4"} {
				group.Go(func() {
					if _, err := patient(handles[i%2]).Create(t.Context(), request(host, settings)); err != nil {
						t.Error(err)
					}
				})
			}
			group.Wait()
			if images := sim.images(testCluster); len(images) != 1 || images[0].template == each.esxi {
				t.Errorf("images %+v, want one", images)
			}
			sim.wantHosts(handles[0], "web-1", "web-2", "web-3", "web-4")
			sim.down(handles[0])
			if left := sim.leftovers(testCluster); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestOVAFromURL downloads an OVA once, and refuses another one.
func TestOVAFromURL(t *testing.T) {
	file, sum := tinyOVA(t)
	hits := 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits++
		http.ServeFile(w, r, file)
	}))
	defer web.Close()
	to := filepath.Join(t.TempDir(), "ova", "it.ova")
	if err := download(t.Context(), web.URL, to, strings.Repeat("0", 64)); !errors.Is(err, providers.ErrInvalid) {
		t.Errorf("another sum: %v", err)
	}
	if err := download(t.Context(), web.URL+"/%", to, sum); err == nil {
		t.Error("a URL that is none is taken")
	}
	if err := download(t.Context(), web.URL, to, sum); err != nil {
		t.Fatal(err)
	}
	p := newVCSim(t, false).open(nil)
	p.stateDir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(p.stateDir, "ova"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(to, filepath.Join(p.stateDir, "ova", sum+".ova")); err != nil {
		t.Fatal(err)
	}
	before := hits
	if _, got, err := p.ovaFile(t.Context(), &Settings{OVA: "https://images.example.org/tiny.ova", SHA256: sum}); err != nil || got != sum || hits != before {
		t.Errorf("the file that is there: sum %s, %v, %d downloads", got, err, hits-before)
	}
}

// TestOVAIsNone names files that cannot be imported.
func TestOVAIsNone(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.ova")
	if err := os.WriteFile(plain, []byte(strings.Repeat("no tar ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newVCSim(t, false).open(nil)
	for file, class := range map[string]error{plain: providers.ErrInvalid, dir + "/nowhere.ova": providers.ErrNotFound, dir: providers.ErrInvalid} {
		settings := NewSettings()
		settings.OVA = file
		if _, err := p.Create(t.Context(), request("web-1", settings)); !errors.Is(err, class) {
			t.Errorf("%s: %v, want %v", file, err, class)
		}
		if err := p.Check(t.Context(), []any{settings}); !errors.Is(err, class) {
			t.Errorf("check of %s: %v, want %v", file, err, class)
		}
	}
}
