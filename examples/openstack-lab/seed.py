"""Fill the lab: seed.py identity | wait | resources | nodes N | nodes-known N."""
import concurrent.futures
import os
import sys
import time

import openstack

cloud = openstack.connect(cloud="lab-admin")
services = {
    "image": ("glance", "http://127.0.0.1:9292"),
    "placement": ("placement", "http://127.0.0.1:8778"),
    "compute": ("nova", "http://127.0.0.1:8774/v2.1"),
    "network": ("neutron", "http://127.0.0.1:9696"),
    "baremetal": ("ironic", "http://127.0.0.1:6385"),
}


def until(what, look):
    """Wait until look() returns something true."""
    for _ in range(900):
        try:
            if look():
                return
        except Exception as problem:  # a service may not have started to listen
            print(what, problem)
        time.sleep(1)
    sys.exit("gave up waiting for " + what)


def identity():
    """Accounts and the catalogue. Everything is looked up first, so that it may run again."""
    keystone, password = cloud.identity, os.environ["LAB_PASSWORD"]

    def ensure(find, make, **what):
        return find(what["name"]) or make(**what)

    projects = {name: ensure(keystone.find_project, keystone.create_project, name=name, domain_id="default")
                for name in ("service", "demo")}
    roles = {name: ensure(keystone.find_role, keystone.create_role, name=name) for name in ("admin", "member", "service")}
    accounts = {name: ("service", "admin", "service") for name in ("glance", "placement", "nova", "neutron", "ironic")}
    accounts["demo"] = ("demo", "member")
    for name, (project, *granted) in accounts.items():
        user = ensure(keystone.find_user, keystone.create_user, name=name, password=password, domain_id="default")
        for role in granted:
            keystone.assign_project_role_to_user(projects[project], user, roles[role])
    for kind, (name, url) in services.items():
        service = keystone.find_service(name) or keystone.create_service(type=kind, name=name)
        for interface in ("public", "internal", "admin"):
            if not list(keystone.endpoints(service_id=service.id, interface=interface)):
                keystone.create_endpoint(service_id=service.id, interface=interface, url=url, region_id="RegionOne")


def wait():
    """Until the compute services and the network agents have reported."""
    until("compute services", lambda: {s.host for s in cloud.compute.services(binary="nova-compute") if s.state == "up"}
          >= {"lab-fake", "lab-qemu", "lab-ironic"})
    until("network agents", lambda: {agent.host for agent in cloud.network.agents() if agent.is_alive} >= {"lab-fake", "lab-qemu"})


def flavors():
    compute = cloud.compute
    for name, ram in (("m1.nano", 192), ("m1.small", 1024), ("baremetal.small", 32768)):
        if compute.find_flavor(name) is None:
            flavor = compute.create_flavor(name=name, vcpus=1, ram=ram, disk=1)
            if name == "baremetal.small":  # of Ironic's nodes, and of nothing else
                compute.create_flavor_extra_specs(flavor, {
                    "resources:CUSTOM_BAREMETAL_SMALL": "1", "resources:VCPU": "0", "resources:MEMORY_MB": "0",
                    "resources:DISK_GB": "0"})


def networks():
    network, demo = cloud.network, cloud.identity.find_project("demo").id
    public = network.find_network("public") or network.create_network(
        name="public", provider_network_type="local", is_router_external=True, is_shared=True)
    private = network.find_network("private") or network.create_network(name="private", project_id=demo)
    if not list(network.subnets(network_id=public.id)):
        network.create_subnet(network_id=public.id, name="public", ip_version=4, cidr="198.51.100.0/24", is_dhcp_enabled=False)
    subnet = next(network.subnets(network_id=private.id), None) or network.create_subnet(
        network_id=private.id, name="private", ip_version=4, project_id=demo, cidr="10.42.0.0/20", dns_nameservers=["10.42.0.1"])
    router = network.find_router("router") or network.create_router(
        name="router", project_id=demo, external_gateway_info={"network_id": public.id})
    if not list(network.ports(device_id=router.id, device_owner="network:router_interface")):
        network.add_interface_to_router(router, subnet_id=subnet.id)


def images():
    """The hypervisor that an image is for decides where its servers are."""
    def image(name, data, form="raw", **properties):
        return cloud.image.find_image(name) or cloud.image.create_image(
            name=name, data=data, disk_format=form, container_format=form if form in ("aki", "ari") else "bare",
            visibility="public", wait=True, **properties)

    def guest(name):
        with open(os.path.join(os.environ["LAB_GUEST"], name), "rb") as file:
            return file.read()

    image("lab-fake", bytes(1024), img_hv_type="fake")
    image("lab-metal", bytes(1024), img_hv_type="baremetal")
    image("lab-qemu", bytes(1 << 20), img_hv_type="qemu", kernel_id=image("lab-kernel", guest("vmlinuz"), "aki").id,
          ramdisk_id=image("lab-initrd", guest("initrd"), "ari").id,
          os_command_line="console=ttyS0 no_timer_check mitigations=off quiet panic=5")


def resources():
    """What hosts are made of."""
    until("Neutron", lambda: list(cloud.network.networks()) is not None)
    networks()
    until("Nova", lambda: list(cloud.compute.flavors()) is not None)
    flavors()
    demo = openstack.connect(cloud="lab")
    if demo.compute.find_keypair("laptop") is None:
        demo.compute.create_keypair(name="laptop", public_key="ssh-ed25519 "
                                    "AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f lab")
    images()


def ready(node):
    """Power a fake machine off and make it available. Nova keeps a node whose power state is not known to itself."""
    ironic = cloud.baremetal
    if node.provision_state == "enroll":
        node = ironic.set_node_provision_state(node, "manage", wait=True)
    if node.power_state is None:
        ironic.set_node_power_state(node, "power off", wait=True)
    if node.provision_state == "manageable":
        ironic.set_node_provision_state(node, "provide", wait=True)


def nodes(count):
    """Fake machines: for Nova, and as many to use directly, whose class no flavor asks for."""
    ironic = cloud.baremetal
    have = {node.name: node for node in ironic.nodes(details=True)}

    def ensure(place):
        kind, resource_class = (("bm", "baremetal.small"), ("rack", "rack"))[place // count]
        node = have.get("%s-%d" % (kind, place % count))
        if node is None:
            node = ironic.create_node(name="%s-%d" % (kind, place % count), driver="fake-hardware", resource_class=resource_class,
                                      properties={"cpus": 1, "memory_mb": 32768, "local_gb": 100, "cpu_arch": "x86_64"})
            ironic.create_port(node_uuid=node.id, address="52:54:00:bb:00:%02x" % place)
        ready(node)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(ensure, range(2 * count)))


def nodes_known(count):
    """Until Nova has seen the nodes, which it looks for once a minute."""
    until("Ironic's nodes in Nova", lambda: 2 * count <= sum(
        h.hypervisor_type == "ironic" for h in cloud.compute.hypervisors(details=True)))


what, arguments = sys.argv[1].replace("-", "_"), [int(each) for each in sys.argv[2:]]
globals()[what](*arguments)
