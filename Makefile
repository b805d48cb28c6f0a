# The two commands of the README are `make demo` and `make test`; the rest is for those who work here.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := $(or $(CARGO_TARGET_DIR),target)/release

.PHONY: help setup build demo test lint fuzz chaos switches bpf perf docs clean-labs
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what building and testing need (Debian packages; idempotent)
	@scripts/setup

build: setup ## build every program into target/release
	@cargo build --release --locked --workspace --bins

demo: build ## three nodes, real traffic, authenticated and encrypted; KEEP=1 leaves it running
	@deploy/demo/run

test: setup ## everything that must hold: lints, unit, kernel, namespace and end-to-end tests
	@scripts/test

lint: ## formatting and clippy only
	@scripts/lint

fuzz: setup ## the fuzz targets under libFuzzer, five minutes each; FOR=SECONDS, TARGET=NAME
	@scripts/fuzz $(or $(FOR),300) $(TARGET)

chaos: build ## everything that goes wrong, at random, under load: EVENTS=300, SEED=N; then STARTS=1000 pods
	@SIGNET_BIN_DIR=$(abspath $(BIN)) SIGNET_CHAOS_EVENTS=$(or $(EVENTS),300) $(if $(SEED),SIGNET_CHAOS_SEED=$(SEED)) \
		cargo test --release --locked -p signet-tests --test chaos -- --nocapture
	@SIGNET_BIN_DIR=$(abspath $(BIN)) SIGNET_POD_STARTS=$(or $(STARTS),1000) \
		cargo test --release --locked -p signet-tests --test mesh -- --nocapture no_packet_of_a_starting_pod

switches: build ## keys between nodes renewed under load, again and again: COUNT=1000
	@SIGNET_BIN_DIR=$(abspath $(BIN)) SIGNET_SWITCHES=$(or $(COUNT),1000) cargo test --release --locked \
		-p signet-tests --test mesh -- --nocapture epochs::switches_of_epochs_under_load

bpf: ## rebuild the checked-in eBPF objects
	@$(MAKE) --no-print-directory -C bpf/programs

perf: build ## what it costs: CPU, first contact, memory, beside other tunnels in one run; ARGS=--short for a quick look
	@scripts/perf $(ARGS)

docs: ## rewrite the generated tables in docs/ and bpf/programs/lib/abi.h
	@SIGNET_BLESS=1 cargo test --release --locked -p signet-abi -q
	@SIGNET_BLESS=1 cargo test --release --locked -p signet-tests --test repo_rules -q

clean-labs: ## remove every lab that an interrupted run left behind
	@for lab in $$(ls /run/signet/lab 2>/dev/null); do $(BIN)/signetctl lab down --name "$$lab"; done
