# The only commands that CI and the README use. `make help` lists them.
# Needs Go and make; everything else is pinned in go.mod and fetched by the go command.

GO       ?= go
BIN      ?= bin
IMAGE    ?= image
CLUSTER  ?= examples/local/cluster.yaml
FUZZTIME ?= 30s
BENCH    ?= .
SEEDS    ?= 10000
RUNS     ?= 20
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Static binaries, the same from the same sources wherever they are built; git is not needed to build.
export CGO_ENABLED := 0
BUILD := $(GO) build -ldflags '-s -w -X main.version=$(VERSION)'

# The clients of Amazon's services are generated, and EC2's alone takes a third of all compiling. They wait for the network:
# nothing is lost when none of their functions is inlined, which takes 40 % off that and a sixth off muster's size.
LEAN := '-gcflags=github.com/aws/aws-sdk-go-v2/service/...=-l'

# The same for every go command, so that build, vet, tests and staticcheck share what one of them has compiled.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath -buildvcs=false $(LEAN))

.DEFAULT_GOAL := help
.PHONY: help build musterd up status kill down test lint bench bench-million bench-idle sim sim-lock fuzz lab lab-partition lab-voters lab-systemd lab-nspawn lab-libvirt lab-ec2 lab-vsphere lab-keys lab-lock lab-openstack lab-image lab-update lab-flatcar lab-metal lab-rollout installer image clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## muster, musterd and the examples' servers, into bin/
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/ ./cmd/muster ./cmd/musterd
	$(BUILD) -o $(BIN)/example-api ./examples/local/api
	$(BUILD) -o $(BIN)/example-lb ./examples/local/lb
	$(BUILD) -o $(BIN)/example-nginx ./examples/web/nginx

musterd: ## musterd alone, into bin/; VERSION=1.2.3 for a release
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/ ./cmd/musterd

up: build ## muster the example: three hosts on this machine, eight units running
	$(BIN)/muster up -f $(CLUSTER) --yes
	@$(BIN)/muster units list -f $(CLUSTER) | awk '/^lb@/ {print "  curl http://" $$3 ":8000/  # " $$1 ", which answers from all servers"}'

status: ## how the example does
	$(BIN)/muster status -f $(CLUSTER)

# A host of the local provider is the processes that carry its instance's name in their environment.
kill: ## pull the plug of one of its hosts: make kill HOST=node-2
	@state=$${MUSTER_STATE_DIR:-$${XDG_STATE_HOME:-$$HOME/.local/state}/muster}; \
	  host=$$(grep -ls '"local_hostname": "$(HOST)"' "$$state"/providers/cloud-[ab]/*/meta-data.json) || \
	    { echo "there is no host '$(HOST)': make kill HOST=node-2"; exit 1; }; \
	  id=$$(sed -n 's/.*"instance_id": "\([^"]*\)".*/\1/p' "$$host"); \
	  kill -9 $$(grep -lszx "MUSTER_INSTANCE=$$id" /proc/[0-9]*/environ | cut -d/ -f3) && echo "$(HOST) is off"

down: build ## end the example and everything that it made
	$(BIN)/muster down -f $(CLUSTER) --yes

# Vet first: it compiles every package with all cores. Then one package at a time, so that the figures that the
# end-to-end tests measure are not those of their neighbours.
test: build ## vet and every test, end to end included, with each package's time
	$(GO) vet ./...
	$(GO) test -p 1 -count=1 -timeout 20m ./...

lint: ## formatting, vet, staticcheck, go.mod, known vulnerabilities
	@echo "gofumpt"; files=$$($(GO) tool gofumpt -l .) || exit 1; \
	  if [ -n "$$files" ]; then echo "not formatted, run '$(GO) tool gofumpt -w .':"; echo "$$files"; exit 1; fi
	$(GO) vet -tags lab ./...
	$(GO) tool staticcheck -tags lab ./...
	$(GO) mod tidy -diff
	$(GO) mod verify
	@echo "govulncheck"; out=$$($(GO) tool govulncheck ./... 2>&1); code=$$?; \
	  if [ $$code -eq 3 ]; then echo "$$out"; exit 1; fi; \
	  if [ $$code -ne 0 ]; then echo "$$out" | tail -n 1; \
	    echo "govulncheck: NOT CHECKED, its database is out of reach from here (see the line above)"; fi

bench: ## benchmarks, with allocations; BENCH=regexp chooses
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

bench-million: ## a million instances on 5,000 simulated hosts, and 10,000 units on 1,000, through a real etcd of three members
	$(GO) test -tags lab -count=1 -v -timeout 10m -run "TestMillion|TestDistinct" ./agent/runtime/sim

bench-idle: ## what three voters use for 1,000 idle hosts with real sessions (MUSTER_IDLE_HOSTS=n for others)
	$(GO) test -tags lab -count=1 -v -timeout 60m -run TestIdle ./agent

sim: ## whole fleets in virtual time, broken in SEEDS (10000) ways; make sim SEED=42 tells the story of one
	$(GO) test -count=1 -v -timeout 120m ./agent/simulation $(if $(SEED),-run TestStory -seed $(SEED),-run TestSeeds -seeds $(SEEDS))

sim-lock: ## 100,000 random histories of the reboot lock, each of which must be one that a semaphore could have
	$(GO) test -count=1 -v -timeout 120m ./agent/lock -run TestHistories -histories 100000

lab-lock: ## 1,000 histories of the reboot lock over three members of etcd that are killed and cut off
	MUSTER_LONG=1 $(GO) test -count=1 -v -timeout 60m ./agent/lock -run TestEtcd

fuzz: ## each fuzz target for FUZZTIME (30s)
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
	    echo "fuzz $$target in $$(dirname $$file) for $(FUZZTIME)"; \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$(dirname $$file); \
	  done; done

lab: build ## the long end-to-end tests: every crash point, twenty kills
	MUSTER_LONG=1 $(GO) test -count=1 -v -timeout 60m ./cmd/muster/e2e/...
	$(GO) test -run '^$$' -bench Failover -benchtime 20x -timeout 30m ./cmd/muster/e2e

lab-partition: ## hosts in network namespaces, cut off from each other in every way (needs root)
	$(GO) test -tags lab -count=1 -v -timeout 30m -run Partitions ./cmd/muster/e2e/

lab-rollout: build ## ten hosts of the local provider take a release, two at a time, under a client's requests; one that never joins falls back
	$(GO) test -tags lab -count=1 -v -timeout 30m -run 'TestRolloutOfHosts|TestSilentAgent' ./cmd/muster/e2e/

lab-voters: ## RUNS (20) histories of keys at several hosts while voters are killed, frozen and cut off, from SEED (1) on, how long losing the leader stops writes, and power cuts (needs root)
	MUSTER_RUNS=$(RUNS) MUSTER_SEED=$(SEED) $(GO) test -tags lab -count=1 -v -timeout 120m -run 'Linearizable|WriteGap' ./cmd/muster/e2e/
	$(GO) test -tags lab -count=1 -v -timeout 15m -run PowerCut ./cluster/voter/

lab-systemd: ## the systemd runtime and container units, with systemd and podman in nspawn hosts (needs root and what `make image` made)
	MUSTER_IMAGE_TREE=$(abspath $(IMAGE))/tree $(GO) test -tags lab -p 1 -count=1 -v ./agent/runtime/systemd/ ./agent/quadlet/

lab-nspawn: build ## hosts as systemd-nspawn containers, end to end (needs root and what `make image` made)
	MUSTER_IMAGE=$(abspath $(IMAGE)) MUSTER_IMAGE_TREE=$(abspath $(IMAGE))/tree $(GO) test -tags lab -p 1 -count=1 -v -timeout 30m \
	  -run 'TestContainers|TestNspawn|TestSystemdLab' ./providers/local/ ./cluster/deliver/ ./cmd/muster/e2e/

lab-libvirt: ## virtual machines of a libvirtd of its own, end to end (needs root, libvirt, QEMU and what `make image` made)
	$(GO) test -tags lab -count=1 -v -timeout 30m ./providers/libvirt/
	MUSTER_IMAGE=$(abspath $(IMAGE)) $(GO) test -tags lab -count=1 -v -timeout 60m -run TestLibvirt ./cmd/muster/e2e/

lab-ec2: ## the EC2 driver against its double: a crash at every call, in accounts of every temper
	MUSTER_LONG=1 $(GO) test -count=1 -v -timeout 30m ./providers/ec2/

lab-vsphere: ## the vSphere driver against vcsim: a crash at every call, connections of every temper, 200 hosts of slow clones
	MUSTER_LONG=1 $(GO) test -count=1 -v -timeout 30m ./providers/vsphere/

lab-keys: ## the keys' HTTP API beside a genuine etcd with version 2, and its clients; bridges (needs root, Debian's etcd-server and etcd-client)
	$(GO) test -tags lab -count=1 -v -timeout 15m -run Lab ./agent/keysapi/ ./agent/gateway/

lab-openstack: export OPENSTACK_LAB_DIR := /var/lib/muster-openstack-test
lab-openstack: ## the OpenStack driver against a real OpenStack of its own, QEMU and Ironic (needs root and Debian 12; installs packages)
	MUSTER_LONG=1 $(GO) test -count=1 -parallel 12 -run 'Crash|Faults' ./providers/openstack
	$(GO) test -c -tags lab -o $(BIN)/lab-openstack.test ./providers/openstack
	@trap 'examples/openstack-lab/down --purge' EXIT; trap 'exit 130' INT TERM; \
	  examples/openstack-lab/up || { tail -qn 5 $$OPENSTACK_LAB_DIR/log/*; exit 1; }; \
	  (cd providers/openstack && ../../examples/openstack-lab/enter $(abspath $(BIN))/lab-openstack.test -test.v -test.parallel 5 -test.timeout 60m -test.run '^TestLab')

lab-image: ## the host image in QEMU: boots, both slots, what is kept; the same bytes again (needs root, QEMU, OVMF and what `make image` made)
	MUSTER_IMAGE=$(abspath $(IMAGE)) $(GO) test -tags lab -count=1 -v -timeout 90m -skip '^TestUpdate' ./examples/image/

lab-update: ## the host image updates itself in QEMU, falls back by itself from broken releases, and boots after power cuts at 20 moments, CUTS (4) of them for real (needs what lab-image does)
	MUSTER_IMAGE=$(abspath $(IMAGE)) MUSTER_CUTS=$(CUTS) MUSTER_SEED=$(SEED) $(GO) test -tags lab -count=1 -v -timeout 120m -run '^TestUpdate' ./examples/image/

lab-flatcar: ## the engine for Flatcar beside an update_engine's double on a bus of its own (needs Debian's dbus-daemon)
	$(GO) test -tags lab -count=1 -v -timeout 15m -run Lab ./agent/update/flatcar/

lab-metal: ## the boot service: 200 machines at once, BIOS and UEFI in QEMU, beside a dnsmasq; power over a simulated IPMI (needs root, QEMU, OVMF, ipxe, dnsmasq, openipmi)
	$(GO) test -tags lab -count=1 -v -timeout 30m -run Lab ./providers/metal/...

installer: ## what machines run that boot over the network, into bin/
	@mkdir -p $(BIN)
	GOOS=linux $(BUILD) -o $(BIN)/ ./cmd/muster-installer

image: build installer ## the host image and the installer of racks, from Debian packages, into image/ (needs root; see examples/image)
	MUSTERD=$(BIN)/musterd INSTALLER=$(BIN)/muster-installer examples/image/build $(IMAGE)

clean: ## remove what was built; clusters are ended with make down
	rm -rf $(BIN)
