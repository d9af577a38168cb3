package cloudconfig_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/musterhq/muster/cloudconfig"
	"github.com/musterhq/muster/cloudconfig/golden"
)

func operator(t testing.TB, body string) cloudconfig.Document {
	t.Helper()
	doc, err := cloudconfig.ParseOperator("f", []byte("#cloud-config\n"+body))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func variables() cloudconfig.Variables {
	return cloudconfig.Variables{
		Host: "node-1", Cluster: "demo", Provider: "cloud-a", Address: "192.0.2.1",
		Labels: map[string]string{"zone": "a: [x", "team/role": "web", "evil": "../../etc/shadow", "lines": "a\nb"},
	}
}

func addresses() cloudconfig.Addresses {
	return cloudconfig.Addresses{
		PrivateIPv4: netip.MustParseAddr("10.0.0.7"), PublicIPv4: netip.MustParseAddr("203.0.113.7"),
		PrivateIPv6: netip.MustParseAddr("fd00::7"), PublicIPv6: netip.MustParseAddr("2001:db8::7"),
	}
}

func TestExpand(t *testing.T) {
	doc := operator(t, `
users: [{name: core, gecos: "of ${muster.cluster}", passwd: "$6$private_ipv4", ssh_authorized_keys: ["ssh-rsa A ${muster.host}"]}]
ssh_authorized_keys: ["ssh-rsa B $public_ipv4"]
write_files:
  - path: /etc/${muster.host}/x
    content: |
      ${muster.host} ${muster.cluster} ${muster.provider} ${muster.address}
      ${muster.label.zone} ${muster.label.team/role} \${muster.host} \$private_ipv4
      $private_ipv4 ${other} $other ${muster_host}
  - {path: /etc/encoded, encoding: b64, content: JHtt}
coreos:
  update: {server: "http://$private_ipv6/"}
  etcd2: {name: "${muster.host}"}
  units: [{name: a.service, content: "[Service]\nA=${muster.host}\n", drop-ins: [{name: a.conf, content: "[Service]\nA=$public_ipv6\n"}]}]
bootcmd: ["a ${muster.host}"]
runcmd: [[b, $private_ipv4, "${muster.provider}"]]
`)
	if diff := cmp.Diff([]string{"public_ipv4", "private_ipv4", "private_ipv6", "public_ipv6"}, doc.Addresses()); diff != "" {
		t.Error(diff)
	}
	before := string(doc.Render())
	cluster, err := doc.Expand(variables())
	if err != nil {
		t.Fatal(err)
	}
	got, err := cluster.ExpandAddresses(addresses())
	if err != nil {
		t.Fatal(err)
	}
	golden.Compare(t, "testdata/expanded.yaml", got.Render())
	if len(got.Uses) > 0 || len(got.Addresses()) > 0 {
		t.Errorf("uses are left: %v", got.Uses)
	}
	if string(doc.Render()) != before {
		t.Error("the document itself changed")
	}
	if _, err := doc.Expand(variables()); err != nil {
		t.Error(err)
	}
	// A cluster's variables are nobody's on a host.
	onHost := parsed(t, "runcmd: ['echo ${muster.host} ${muster.x']\n")
	if same, err := onHost.ExpandAddresses(cloudconfig.Addresses{}); err != nil || !cmp.Equal(same, onHost) {
		t.Errorf("%v, %v", same, err)
	}
}

func TestExpandFindings(t *testing.T) {
	for body, want := range map[string]string{
		"runcmd: ['${muster.address}']\n":                                              "f:2:10: `muster.address` has no value here; the host itself fills in `$private_ipv4`",
		"runcmd:\n- a\n- [b, '${muster.label.rack}']\n":                                "f:4:7: `muster.label.rack` has no value here; give the host the label `rack`",
		"write_files:\n- path: /x\n  content: |\n    a\n\n    b ${muster.label.a}\n":   "f:7: `muster.label.a` has no value here; give the host the label `a`",
		"write_files:\n- path: /x/${muster.label.evil}\n":                              "f:3:9: `/x/../../etc/shadow` should be `/etc/shadow`",
		"write_files:\n- path: /x/${muster.label.lines}\n":                             "f:3:9: `/x/a\nb` has more than one line",
		"write_files:\n- path: /${muster.label.own}/x\n":                               "f:3:9: `/etc/muster/x` is in `/etc/muster`, which is muster's own; write it elsewhere",
		"coreos: {fleet: {metadata: 'a=${muster.label.none},b=${muster.label.no}'}}\n": "f:2:28: `muster.label.none` has no value here; give the host the label `none`\nf:2:28: `muster.label.no` has no value here; give the host the label `no`",
	} {
		v := variables()
		v.Address = ""
		v.Labels["own"] = "etc/muster"
		_, err := operator(t, body).Expand(v)
		if err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", body, err, want)
		}
	}
	_, err := parsed(t, "runcmd: ['\\$public_ipv4 $public_ipv4']\n").ExpandAddresses(cloudconfig.Addresses{})
	if want := "f:2:10: `public_ipv4` has no value here; write `\\$public_ipv4` if the name itself is meant"; err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestUnknownVariables(t *testing.T) {
	_, err := cloudconfig.ParseOperator("f", []byte(`#cloud-config
runcmd: ['${muster.hots}', '${muster.label.}', '${muster.}', '${muster.host', '\${muster.whatever}', '${muster.secret}']
`))
	const all = "; there are `muster.host`, `muster.cluster`, `muster.provider`, `muster.address`, `muster.label.NAME`"
	want := "f:2:10: no variable is called `muster.hots`; did you mean `muster.host`?\n" +
		"f:2:28: no variable is called `muster.label.`" + all + "\n" +
		"f:2:48: no variable is called `muster.`" + all + "\n" +
		"f:2:62: `${muster.host` lacks its `}`\n" +
		"f:2:102: no variable is called `muster.secret`" + all
	if err == nil || err.Error() != want {
		t.Errorf("-want +got\n%s", cmp.Diff(want, err.Error()))
	}
}

func TestAddressesOr(t *testing.T) {
	some := cloudconfig.Addresses{PrivateIPv4: netip.MustParseAddr("10.9.9.9")}
	want := addresses()
	want.PrivateIPv4 = some.PrivateIPv4
	if got := some.Or(addresses()); got != want {
		t.Errorf("%+v", got)
	}
	if _, ok := some.Get("public_ipv4"); ok {
		t.Error("an address that is not there")
	}
}
