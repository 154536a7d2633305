# `make` builds everything. `make help` lists the rest.
BUILD := build/release
JOBS := $(shell nproc)

.PHONY: build setup test demo bench-migrate bench-tracking bench-ipc torture oracle sim soak model fuzz lint format clean help
.DEFAULT_GOAL := build

build: setup  ## install what is missing, then build into build/release (the default)
	cmake --preset release
	ninja -C $(BUILD) -j $(JOBS)

setup:  ## only install what is missing (as root)
	scripts/setup

test: setup  ## lint, and all tests: optimised, with ASan+UBSan and with TSan (as root)
	scripts/test all

demo: build  ## a cluster of three nodes on this machine, with live migrations: make demo ARGS=...
	$(BUILD)/bin/dvs-demo $(ARGS)

bench-migrate: build  ## measure migrations against its peers, installed first (as root): make bench-migrate ARGS=...
	scripts/setup --bench
	$(BUILD)/bin/bench-migrate $(ARGS)

bench-tracking: build  ## measure what tracking its memory costs a process
	mkdir -p build/bench
	$(BUILD)/bin/bench-tracking 5 build/bench/tracking.json

bench-ipc:  ## measure M3-IPC against its peers, installed first (as root): make bench-ipc ARGS=...
	scripts/setup --bench
	cmake --preset bench
	ninja -C $(BUILD) -j $(JOBS) bench-ipc
	$(BUILD)/bin/bench-ipc $(ARGS)

torture: build  ## kill processes while they talk: make torture KILLS=100000
	$(BUILD)/bin/dvs-torture --progress --kills $(or $(KILLS),100000) $(ARGS)

oracle: build  ## move a process that checks its memory, by each algorithm: make oracle MOVES=1000
	cd $(BUILD) && DVS_MOVES=$(or $(MOVES),1000) DVS_BUILD_DIR=$$PWD bin/oracle_test

soak: build  ## thousands of migrations under load, with random faults (as root): make soak ARGS="--minutes 10"
	$(BUILD)/bin/dvs-soak $(ARGS)

sim: build  ## the whole cluster in virtual time, with every fault, by seed: make sim SEEDS=100000
	$(BUILD)/bin/dvs-sim --seeds $(or $(SEEDS),10000) --output build/sim.json $(ARGS)

model: setup  ## go through all states of the model of the migration protocol: make model ARGS=--all
	scripts/model $(ARGS)

fuzz: setup  ## look for input that breaks a parser, with clang: make fuzz SECONDS=60 (for each)
	scripts/fuzz $(or $(SECONDS),60)

lint: setup  ## format, sizes, layering, headers, clang-tidy (ARGS=--full: on every file)
	scripts/lint $(ARGS)

format: setup  ## rewrite the sources as clang-format wants them
	git ls-files -z --cached --others --exclude-standard '*.h' '*.hpp' '*.c' '*.cc' | xargs -0 -r clang-format -i

clean:  ## remove everything that was built
	rm -rf build

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' Makefile | expand -t 22
