# The verbs of this project. CI runs `make check` and `make test`, nothing else.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
ROUTERS ?= mips armv7
# Namespaces and TUN devices need root: somebody else's tests run through sudo.
ifneq ($(shell id -u),0)
export CARGO_TARGET_$(shell rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER := sudo -E
endif

.PHONY: help demo test check e2e soak fuzz-api bench-audit bench-discovered bench-fleet pictures bench size deny cross routers emulate memory packages ipk apk deb release reproducible boot

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a server, a gateway and sample devices on this machine; Ctrl-C stops all of it
	@tests/install.sh demo
	$(CARGO) build --locked -p linkspan-server -p linkspan-gateway -p linkspan -p linkspan-tests --bins
	@exec target/debug/linkspan-demo $(DEMO)

check: ## formatting, lints with every warning an error, sizes of files
	@tests/install.sh build
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p linkspan-protocol --no-default-features --locked -- -D warnings
	$(CARGO) clippy -p linkspan-gateway --no-default-features --locked -- -D warnings
	@tests/file-sizes.sh

test: packages ## all tests, against real programs; installs those that are missing
	@tests/install.sh test
	@# Builds every package's programs too, since each has tests that run them; a build of its own would build all twice.
	$(CARGO) test --workspace --locked --no-fail-fast

e2e: ## only the journeys
	@tests/install.sh test
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test -p linkspan-tests --locked --no-fail-fast

soak: ## the journeys that take minutes: holes, forgetful NATs, what an idle link costs
	@tests/install.sh test
	$(CARGO) build --locked --workspace --bins
	SOAK=10 $(CARGO) test -p linkspan-protocol --locked --test machine -- --nocapture links_that_are_lost
	$(CARGO) test -p linkspan-tests --locked --no-fail-fast --test journeys -- --ignored --nocapture

fuzz-api: ## asks the API whatever its description allows, for ten minutes (LINKSPAN_FUZZ_SECONDS)
	@tests/install.sh test
	$(CARGO) test -p linkspan-server --locked --test schemathesis -- --ignored --nocapture

bench-audit: ## a million entries in the audit: written, searched, verified
	$(CARGO) test -p linkspan-server --locked --release --lib -- --ignored --nocapture a_million_rows

bench-discovered: ## what a thousand gateways have found, 20,000 devices: listed, filtered, searched
	$(CARGO) test -p linkspan-server --locked --release --lib -- --ignored --nocapture a_thousand_lans

bench-fleet: ## a thousand gateways with twenty devices each: listed, filtered, searched
	$(CARGO) test -p linkspan-server --locked --release --test routes -- --ignored --nocapture lists_and_searches

pictures: ## the pictures of the README, in docs/images, taken in a real browser
	@tests/install.sh test
	$(CARGO) test -p linkspan-tests --locked --test browser -- --ignored pictures_for_the_readme

bench: ## figures against direct access and rathole, in a table (BENCH=--write: into docs/performance.md too)
	@tests/install.sh bench
	$(CARGO) build --locked --release -p linkspan-server -p linkspan-gateway -p linkspan-tests --bins
	$(CARGO) build --locked --profile gateway -p linkspan-gateway
	target/release/bench $(BENCH)

cross: ## the gateway for routers, static, into target/cross (TARGETS="mips mipsel armv7 arm aarch64 x86_64 riscv64")
	@tests/install.sh cross
	packaging/cross.sh $(TARGETS)

routers: ## the gateway for big-endian MIPS and for ARM, at work in emulation (ROUTERS="mips armv7", or any of TARGETS)
	@tests/install.sh test
	@tests/install.sh cross
	packaging/cross.sh $(ROUTERS)
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test -p linkspan-tests --locked --test routers -- --ignored --exact $(addprefix on_,$(ROUTERS))

emulate: ## the gateway on a MIPS 24Kc machine with 64 MB and a kernel of its own: TLS, mDNS, news of the kernel, memory
	@tests/install.sh test
	@tests/install.sh emulate
	packaging/malta.sh
	packaging/cross.sh mipsel
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test -p linkspan-tests --locked --test malta -- --ignored --nocapture

memory: ## what a gateway with 20 devices holds, idle and after a million streams (LINKSPAN_STREAMS)
	@tests/install.sh cross
	packaging/cross.sh x86_64
	LINKSPAN_GATEWAY=$(abspath $(or $(CARGO_TARGET_DIR),target))/cross/x86_64/linkspan-gateway \
	  $(CARGO) test -p linkspan-gateway --locked --test memory -- --ignored --nocapture

packages: ## what is shipped, as opkg, procd's shell, LuCI, bitbake and systemd read it
	@tests/install.sh packages
	python3 -m unittest discover -s packaging -p 'test_*.py'

ipk: ## packages for OpenWrt 24.10 of what `make cross` built (KEY=feed.sec signs the index)
	packaging/ipk.py target/ipk $(if $(KEY),--key $(KEY))

apk: ## packages for OpenWrt 25.12 where there are apk-tools 3, else what they need (KEY=key.pem)
	packaging/apk.py target/apk $(if $(KEY),--key $(KEY))

deb: ## packages for Debian's amd64, arm64, armhf
	@tests/install.sh cross
	packaging/cross.sh x86_64 aarch64 armv7
	packaging/deb.sh target/debian x86_64 aarch64 armv7

boot: ## the Debian packages installed, upgraded and purged in a booted Debian, the watchdog seen to bite
	@tests/install.sh boot
	packaging/cross.sh x86_64
	packaging/boot.sh

reproducible: ## the gateway built twice, in two folders: the bytes are the same (REPRODUCE="mipsel")
	@tests/install.sh cross
	packaging/reproducible.sh $(REPRODUCE)

release: ## all of it in target/release-files, with a list of parts and checksums
	@tests/install.sh cross
	packaging/release.sh

size: ## the gateway's bytes on mipsel against packaging/budget.txt (SIZE=--prices: what each feature costs)
	@tests/install.sh cross
	packaging/size.sh $(SIZE)

deny: ## licences, bans and advisories of what we depend on (needs cargo-deny)
	cargo-deny --workspace check
