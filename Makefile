# pragma_boot: set-up, the demo cluster, operations on clusters, and tests.
# A site's own makefile can include this one from any folder: `include /path/to/pragma_boot/Makefile`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

pragma := $(patsubst %/,%,$(dir $(realpath $(lastword $(MAKEFILE_LIST)))))
bin := $(pragma)/bin
venv := $(pragma)/.venv
export PRAGMA_SITE_CONF ?= $(pragma)/site_conf.conf
-include $(PRAGMA_SITE_CONF)

Q := $(if $(V),,@)
NUM_CPUS ?= 0
KEY ?= /root/.ssh/id_rsa.pub

# The Debian packages that the tools need (README, Dependencies). The kernel is for the appliance of
# libguestfs, and is installed only if there is none.
PACKAGES := python3-venv make qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-clients libxml2-utils \
	guestfish mmdebstrap e2fsprogs fdisk util-linux xz-utils zstd fuse3 grub-pc-bin grub-common openssh-client \
	procps iproute2 ovmf dosfstools mtools passt gpgv ca-certificates \
	$(if $(wildcard /boot/vmlinuz-*),,linux-image-cloud-amd64)

# The packages that make the UEFI image of `make test`, and all stock images: see --packages of the programs in
# tests/images. OVMF starts the first.
UEFI_PACKAGES := vmdb2 user-mode-linux mmdebstrap qemu-utils kpartx parted dosfstools e2fsprogs ovmf
IMAGE_PACKAGES := $(UEFI_PACKAGES) lvm2 xfsprogs xz-utils fai-server fai-setup-storage fdisk zstd \
	python3-diskimage-builder debootstrap dmsetup sudo util-linux

# The packages that `make test` needs in addition: bzip2 for images, locales for other languages, groff for the manual
# pages, Open vSwitch for VLANs, strace, GNU time for the test of the benchmark, Graphviz, zsh for its completion,
# OpenSSL for certificates, jq for JSON, GnuPG for signatures, and GRUB for a UEFI guest.
TEST_PACKAGES := bzip2 libvirt-l10n locales groff-base openvswitch-switch strace time graphviz zsh openssl jq \
	gpg gpg-agent grub-efi-amd64-bin $(UEFI_PACKAGES)

# The packages that `make test-long` needs in addition: XFS and btrfs for other images, and a Ganeti cluster.
LONG_PACKAGES := xfsprogs btrfs-progs ganeti openssh-server python3-lxml $(IMAGE_PACKAGES)

## Set-up

.PHONY: help
help: ## show this list
	@awk -F ': .*## ' '/^## / { print "\n" substr($$0, 4) ":" } \
	    /^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(pragma)/Makefile

.PHONY: setup
setup: packages $(venv)/stamp ## install missing packages (as root), create .venv

.PHONY: packages
packages:
	$(Q)missing=; for package in $(PACKAGES); do \
	    [ "$$(dpkg-query -W -f '$${db:Status-Status}' $$package 2>/dev/null)" = installed ] || \
	        missing="$$missing $$package"; done; \
	[ -z "$$missing" ] && exit 0; \
	[ "$$(id -u)" = 0 ] || { echo "make: packages are missing; as root, run: apt-get install$$missing" >&2; exit 1; }; \
	echo "Installing Debian packages:$$missing"; \
	export DEBIAN_FRONTEND=noninteractive; log=$$(mktemp); trap 'rm -f "$$log"' EXIT; \
	{ apt-get -qq update && \
	  apt-get -qq install -y --no-install-recommends $$missing; } >"$$log" 2>&1 || \
	    { cat "$$log" >&2; exit 1; }

$(venv)/stamp: $(pragma)/requirements.txt $(pragma)/tests/requirements.txt | packages
	$(Q)echo "Creating the virtual environment .venv from requirements.txt and tests/requirements.txt"
	$(Q)[ -x $(venv)/bin/pip ] || /usr/bin/python3 -m venv $(venv)
	$(Q)$(venv)/bin/pip install -qq --disable-pip-version-check $(patsubst %,-r %,$^)
	$(Q)touch $@

PREFIX ?= /usr/local
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
installing = PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' DESTDIR='$(DESTDIR)'

.PHONY: install
install: setup ## [PREFIX=/usr/local] [DESTDIR=]: install the tools
	$(Q)$(installing) $(pragma)/lib/install put

.PHONY: uninstall
uninstall: ## [PREFIX=/usr/local] [DESTDIR=]: remove the tools
	$(Q)$(installing) $(pragma)/lib/install remove

## The demo: a frontend and two compute nodes on this machine

demo_key := $(pragma)/.demo/id_ed25519
demo_config := $(pragma)/.demo/ssh_config

.PHONY: demo
demo: setup $(pragma)/images/debian/debian.img.gz $(demo_key) ## build the demo image, boot the demo cluster, wait
	$(Q)if $(bin)/vc-status demo >/dev/null 2>&1; then \
	    echo "The demo cluster exists; starting those of its nodes that do not run"; \
	    $(bin)/vc-start --wait demo; \
	else \
	    echo "Booting a frontend and two compute nodes; without KVM, this takes a minute"; \
	    $(bin)/pragma_boot --vcname debian --name demo --num_cpus 4 --key '$(demo_key).pub' --wait >/dev/null; \
	fi; \
	$(bin)/vc-status demo
	$(Q)echo; echo "Log in to the frontend, and from there to compute-0 and compute-1 with ssh:"; \
	echo "  $(bin)/vc-ssh -i $(demo_key) demo"; \
	echo "Remove the cluster:"; echo "  make demo-clean"

.PHONY: demo-clean
demo-clean: ## remove the demo cluster
	$(Q)$(bin)/vc-clean demo

.PHONY: demo-two
demo-two: setup $(pragma)/images/debian/debian.img.gz $(demo_key) ## boot two clusters, restart one, remove both
	$(Q)trap '$(bin)/vc-clean demo-a; $(bin)/vc-clean demo-b' EXIT; \
	echo "Booting demo-a and demo-b at the same time; without KVM, this takes two minutes or more"; \
	boot() { $(bin)/pragma_boot --vcname debian --name "$$1" --num_cpus 2 --key '$(demo_key).pub' --wait >/dev/null; }; \
	boot demo-a & first=$$!; boot demo-b & second=$$!; \
	status=0; wait $$first || status=$$?; wait $$second || status=$$?; [ $$status = 0 ] || exit $$status; \
	$(bin)/vc-status demo-a demo-b; \
	echo; echo "Shutting down demo-a; demo-b keeps running"; \
	$(bin)/vc-shutdown demo-a; $(bin)/vc-status demo-a demo-b; \
	echo; echo "Starting demo-a again"; \
	$(bin)/vc-start --wait demo-a; \
	$(bin)/vc-status demo-a demo-b; \
	echo; echo "Removing both"

.PHONY: demo-hpc
demo-hpc: setup $(pragma)/images/hpc/hpc.img.gz $(demo_key) ## boot an HPC cluster, run an MPI program by sbatch
	$(Q)if $(bin)/vc-status demo-hpc >/dev/null 2>&1; then \
	    echo "The cluster demo-hpc exists; starting those of its nodes that do not run"; \
	    $(bin)/vc-start --wait demo-hpc; \
	else \
	    echo "Booting a frontend and three compute nodes; without KVM, this takes some minutes"; \
	    $(bin)/pragma_boot --vcname hpc --name demo-hpc --num_cpus 6 --user demo --key '$(demo_key).pub' --wait >/dev/null; \
	fi; \
	$(bin)/vc-status demo-hpc; echo; \
	$(pragma)/examples/mpi-job demo-hpc demo '$(demo_key)'
	$(Q)$(bin)/vc-status -i '$(demo_key)' --ssh-config demo-hpc >'$(demo_config)'; \
	echo; echo "Log in as the user, and as root:"; \
	echo "  ssh -F $(demo_config) -l demo frontend.demo-hpc"; \
	echo "  $(bin)/vc-ssh -i $(demo_key) demo-hpc"; \
	echo "Remove the cluster:"; echo "  make demo-hpc-clean"

.PHONY: demo-hpc-clean
demo-hpc-clean: ## remove the cluster of make demo-hpc
	$(Q)$(bin)/vc-clean demo-hpc

$(demo_key):
	$(Q)mkdir -p $(@D)
	$(Q)ssh-keygen -q -t ed25519 -N '' -C demo -f $@

$(pragma)/images/debian/debian.img.gz: $(pragma)/images/debian/build $(wildcard $(pragma)/images/guest/*) | packages
	$(Q)echo "Building the demo image $(@F); this takes a few minutes"
	$(Q)$< $@

$(pragma)/images/hpc/hpc.img.gz: $(pragma)/images/hpc/build $(pragma)/images/debian/build \
    $(wildcard $(pragma)/images/guest/*) $(shell find $(pragma)/images/hpc/overlay -type f ! -path '*/__pycache__/*') | packages
	$(Q)echo "Building the HPC image $(@F); this takes some minutes"
	$(Q)$< $@

## Clusters

.PHONY: list
list: ## list the entries of the image database
	$(Q)$(bin)/vc-list

.PHONY: stage
stage: ## VC=name: unpack and prepare the images of an entry
	$(Q)[ -n "$(VC)" ] || { echo "make: VC is not set; run: make $@ VC=name ('make list' lists the names)" >&2; exit 2; }
	$(Q)path=$$($(bin)/vc-fetch '$(VC)'); document=$$($(bin)/vc-parse "$$path"); \
	$(bin)/vc-stage <<<"$$document" >/dev/null

.PHONY: prune
prune: ## list staged images, remove those that no cluster uses
	$(Q)$(bin)/vc-stage --prune

.PHONY: cluster
cluster: ## VC=name NUM_CPUS=n KEY=file [NAME=name]: boot a cluster
	$(Q)[ -n "$(VC)" ] || { echo "make: VC is not set; run: make $@ VC=name ('make list' lists the names)" >&2; exit 2; }
	$(Q)$(bin)/pragma_boot --vcname '$(VC)' --num_cpus '$(NUM_CPUS)' --key '$(KEY)' \
	    $(if $(NAME),--name '$(NAME)')

.PHONY: status
status: ## show the clusters and how to log in to them
	$(Q)$(bin)/vc-status

.PHONY: start
start: ## NAME=cluster: start the nodes that do not run
	$(Q)[ -n "$(NAME)" ] || { echo "make: NAME is not set; run: make $@ NAME=cluster ('make status' lists them)" >&2; exit 2; }
	$(Q)$(bin)/vc-start '$(NAME)'

.PHONY: clean-cluster
clean-cluster: ## NAME=cluster: remove a cluster
	$(Q)[ -n "$(NAME)" ] || { echo "make: NAME is not set; run: make $@ NAME=cluster ('make status' lists them)" >&2; exit 2; }
	$(Q)$(bin)/vc-clean '$(NAME)'

## Development

# The tools that `make bench` compares with ours.
BENCH_PACKAGES := gzip pigz isal bzip2 virtinst guestfs-tools time curl

bench: PACKAGES += $(BENCH_PACKAGES) $(LONG_PACKAGES) openssl

$(venv)/stamp-bench: $(pragma)/tests/bench/requirements-bench.txt $(venv)/stamp
	$(Q)echo "Adding the packages of tests/bench/requirements-bench.txt to .venv"
	$(Q)$(venv)/bin/pip install -qq --disable-pip-version-check -r $<
	$(Q)touch $@

.PHONY: bench
bench: setup $(venv)/stamp-bench $(pragma)/images/debian/debian.img.gz ## [BENCH=options]: compare the speed with other tools
	$(Q)cd $(pragma)/tests && $(venv)/bin/python -m bench.bench --output $(pragma)/.bench $(BENCH)

# bin/pragma_boot has the name of the package, and so is checked by itself.
mypy := $(venv)/bin/mypy --no-error-summary

.PHONY: lint
lint: setup ## check the code: ruff and mypy
	$(Q)cd $(pragma) && $(venv)/bin/ruff check --quiet && $(mypy) && $(mypy) bin/pragma_boot && \
	    $(mypy) --scripts-are-modules $$(ls bin/vc-*) lib/stage-image drivers/ganeti/os/pragma/create

# Three test files run in parallel, but only one of them boots guests: tests spend most of their time waiting.
pytest := $(venv)/bin/pytest -n 3

test test-quick test-long check-docs: PACKAGES += $(TEST_PACKAGES)
test-long: PACKAGES += $(LONG_PACKAGES)

.PHONY: test
test: lint $(pragma)/images/debian/debian.img.gz ## run the tests, including those that boot guests
	$(Q)cd $(pragma) && $(pytest) -m 'not long' $(PYTEST)

test-images: PACKAGES += $(IMAGE_PACKAGES)

.PHONY: test-images
test-images: setup ## [IMAGES=names]: make the stock images of make test-long
	$(Q)cd $(pragma)/tests && $(venv)/bin/python -m lab.stock $(IMAGES)

.PHONY: test-quick
test-quick: lint ## run the tests that boot no guest
	$(Q)cd $(pragma) && $(pytest) -m 'not guest and not long' $(PYTEST)

.PHONY: check-docs
check-docs: setup ## compare manuals with tools, run their examples
	$(Q)cd $(pragma) && $(venv)/bin/pytest tests/tools/test_docs.py $(PYTEST)

fuzz: SECONDS ?= 60

.PHONY: fuzz
fuzz: setup ## SECONDS=60: run the tools on random input
	$(Q)cd $(pragma)/tests && $(venv)/bin/python -m lab.fuzz --keep '$(CURDIR)' --seconds $(SECONDS)

soak: CLUSTERS ?= 100
soak: SECONDS ?= 900

.PHONY: soak
soak: setup ## CLUSTERS=100 SECONDS=900: create clusters, kill tools
	$(Q)cd $(pragma)/tests && $(venv)/bin/python -m lab.soak --clusters $(CLUSTERS) --seconds $(SECONDS)

.PHONY: test-long
test-long: lint $(pragma)/images/debian/debian.img.gz ## run all tests, including those of many minutes
	$(Q)cd $(pragma) && $(pytest) $(PYTEST)

test-debian12: release := bookworm
test-debian13: release := trixie
test-debian12 test-debian13: PACKAGES := mmdebstrap git

.PHONY: test-debian12 test-debian13
test-debian12: ## run make demo and make test on a fresh Debian 12
test-debian13: ## run make demo and make test on a fresh Debian 13
test-debian12 test-debian13: packages
	$(Q)$(pragma)/tests/lab/debian-root $(release) 'make demo' 'make demo-clean' 'make test$(if $(PYTEST), PYTEST="$(PYTEST)")'
