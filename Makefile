# Everything here can be run again at any time. Needs Python >= 3.11 with pip; a C compiler makes the broker faster.
#
#   make run            set-up and a broker on 127.0.0.1:1883        (make run ARGS="--listen 127.0.0.1:1884")
#   make test           set-up and the whole test suite, pure Python (make test ARGS="tests/mqtt -x")
#   make chaos-short    faults on nodes, Redis and connections: the short form of chaos, three minutes at most
#   make guides         the scripts of docs/guides, and the guided failure
#   make attack-tests   the short form of the attacks, with counts in place of figures
#   make test-compiled  the tests of the compiled packages, against the compiled ones
#   make browser        the dashboard, and MQTT.js over WSS, in headless Chromium
#   make conformance    every statement of MQTT 5.0 and 3.1.1, on one node and on two
#   make lint           ruff, mypy --strict, import contracts
#   make coverage       branch coverage of the protocol and session rooms by their own tests: must be 100 %
#   make bench          Moorline beside mosquitto on this machine, docs/benchmarks.md
#                       (make bench ARGS="--broker moorline --broker mosquitto --broker aedes-redis": aedes, too)
#   make micro          instructions of the hot path beside its baseline, by valgrind, docs/micro-benchmarks.md
#   make micro-time     the same pieces in time, by pyperf
#   make bench-across   what a message costs between nodes beside within one, docs/across.md
#   make bench-shards   what a message costs on a Redis Cluster beside one server, docs/redis.md
#   make bench-levels   what a durability level costs, docs/redis.md
#   make scale          a million retained messages, 200,000 sessions, and what others feel, docs/scale.md
#   make footprint      bytes of a session, a queued message, a subscription; a million subscriptions: docs/footprint.md
#   make subscribe      10,000 subscriptions on one node, each used from the other the moment it is acknowledged
#   make chaos          ten minutes of faults on three nodes, docs/failover.md (make chaos ARGS="--seed 1 --minutes 2")
#   make matrix         each shape of Redis under each fault, docs/redis.md (make matrix ARGS="--cells 'sentinel-*/pause/*/redis'")
#   make shared         100,000 messages for a shared subscription whose members and nodes are killed
#   make fuzz           coverage-guided fuzzing for ten minutes (make fuzz ARGS="--seconds 3600")
#   make attacks      eleven attacks on one node with 500 honest clients, docs/attacks.md (make attacks ARGS="--only drip")
#   make upgrade        ten rolls to this release and back under traffic, three nodes (make upgrade ARGS="--rounds 50")
#   make reconnect      3,000 clients on three nodes behind HAProxy, one node killed: who is back when, what is lost
#   make image          the container image               (make image BUILDER="podman build" IMAGE=moorline:1)
#   make containers     that image under test: rolled, killed and partitioned behind HAProxy, the short form
#   make rolling        the long form with 2,000 clients, docs/rolling.md
#   make build          compiled packages in build/compiled, complete: what `make run` runs
#   make docs           docs/configuration.md, README and schema of the chart from the settings; docs/conformance.md
#   make golden         what the Helm chart renders, tests/helm/golden
#   make audit          known vulnerabilities of what requirements.lock has; are all packages pinned with hashes?
#   make lock           requirements.lock from pyproject.toml, and what the image takes of it
#   make ci             what CI does

# A suite starts hundreds of nodes: none should compile our sources again, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# Of the test suite: half of the time a test waits, for silence, a tick or a deadline.
TESTERS ?= $(shell $(PYTHON) -c 'import os; print(2 * (os.cpu_count() or 1))')
CHAOS := tests/cluster/test_faults.py tests/cluster/test_drain.py tests/node/test_reaping.py \
  tests/node/test_handshake_kill.py tests/upgrade/test_roll.py tests/forwarding/test_bridge.py tests/redis
BUILD := build/compiled
IN_BUILD := PYTHONSAFEPATH=1 PYTHONPATH=$(CURDIR)/$(BUILD)
# The rooms of which setup.py compiles something.
COMPILED := $(wildcard $(addsuffix /*.py,$(addprefix broker/,auth client listeners mqtt observability routing session) \
  cluster/store)) cluster/pulse.py

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
BUILDER ?= docker build
BASE_IMAGE ?= python:3.13-slim
IMAGE ?= moorline:$(VERSION)
IMAGE_ARGS ?=

.PHONY: run test chaos-short guides attack-tests browser conformance test-compiled lint coverage bench micro micro-time attacks bench-across bench-shards bench-levels scale footprint \
  subscribe chaos matrix shared reconnect upgrade fuzz image containers rolling build docs golden lock audit ci clean

run: build
	@$(IN_BUILD) exec $(BIN)/moorline serve $(ARGS)

test: .venv/stamp
	MOORLINE_PURE=1 $(BIN)/python -m pytest -n $(TESTERS) --dist worksteal --ignore tests/containers --ignore tests/attacks \
	  --ignore tests/browser --ignore tests/guides $(CHAOS:%=--ignore %) $(ARGS)

# Nodes, Redis and connections are killed, stopped and cut off under traffic; `make chaos` and `make matrix` are the
# long forms.
chaos-short: .venv/stamp
	MOORLINE_PURE=1 timeout 360 $(BIN)/python -m pytest -p tests.tally --write-tally=build/chaos.tally \
	  -n $(TESTERS) --dist worksteal $(CHAOS) $(ARGS)

# What docs/guides and docs/guided-failure.md say, done.
guides: .venv/stamp
	MOORLINE_PURE=1 $(BIN)/python -m pytest -p tests.tally --write-tally=build/guides.tally \
	  -n $(TESTERS) --dist worksteal tests/guides $(ARGS)

# By themselves: what they do to a node they would do to other tests, too.
attack-tests: .venv/stamp
	MOORLINE_PURE=1 $(BIN)/python -m pytest tests/attacks $(ARGS)

# By themselves: a browser takes a core for itself, and what it is asked for has to come in time.
browser: .venv/stamp
	MOORLINE_PURE=1 timeout 180 $(BIN)/python -m pytest -p tests.tally --write-tally=build/browser.tally \
	  -n 2 --dist loadfile tests/browser $(ARGS)

# Within three minutes. The tally is for the summary of a run that leaves these tests out, as CI does.
conformance: .venv/stamp
	MOORLINE_PURE=1 timeout 180 $(BIN)/python -m pytest -p tests.tally --write-tally=build/conformance.tally \
	  -n 2 --dist worksteal tests/conformance $(ARGS)

# The tests are copied beside the compiled packages, so that nothing can be imported from the sources here.
test-compiled: build
	@rm -rf $(BUILD)/tests
	@cp -r tests $(BUILD)/tests
	cd $(BUILD) && MOORLINE_PURE=0 $(CURDIR)/$(BIN)/python -m tests.compiled
	cd $(BUILD) && MOORLINE_PURE=0 $(CURDIR)/$(BIN)/python -m pytest -c $(CURDIR)/pyproject.toml --rootdir . \
	  -p no:cacheprovider -n auto tests/mqtt tests/session tests/routing tests/fuzz/test_corpus.py \
	  tests/client tests/store/test_sessions.py tests/store/test_deadlines.py tests/node/test_retained.py \
	  tests/node/test_session_life.py tests/node/test_wills.py $(ARGS)

lint: .venv/stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

coverage: .venv/stamp
	MOORLINE_PURE=1 $(BIN)/python -m pytest -q -n auto tests/mqtt tests/session \
	  --cov=broker.mqtt --cov=broker.session --cov-branch --cov-fail-under=100 \
	  --cov-report=term-missing:skip-covered

# aedes, which is compared on demand, is installed beside the sources (.ci/deps).
bench: build
	NODE_PATH=$(CURDIR)/loadtest/aedes/node_modules $(IN_BUILD):$(CURDIR) \
	  $(BIN)/python -m tests.bench.compare $(ARGS)

# Both builds: compiled, and from the sources.
micro: build
	$(IN_BUILD):$(CURDIR) MOORLINE_PURE=0 $(BIN)/python -m tests.bench.micro $(ARGS)
	MOORLINE_PURE=1 $(BIN)/python -m tests.bench.micro $(ARGS)

micro-time: build
	$(IN_BUILD):$(CURDIR) MOORLINE_PURE=0 $(BIN)/python -m tests.bench.timing $(ARGS)

chaos: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.cluster.chaos $(ARGS) --write docs/failover.md

matrix: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.redis.matrix $(ARGS) --write docs/redis.md

reconnect: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.cluster.reconnect $(ARGS)

# Both releases run from sources.
upgrade: .venv/stamp
	MOORLINE_PURE=1 $(BIN)/python -m tests.upgrade.roll $(ARGS)

# What it finds goes on from run to run in build/fuzz; `make fuzz ARGS=--save` takes it into tests/fuzz/corpus.
fuzz: .venv/stamp
	MOORLINE_PURE=1 $(BIN)/python -m tests.fuzz $(ARGS)

subscribe: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.cluster.subscribe $(ARGS)

shared: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.cluster.shared $(ARGS)

attacks: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.attacks --write docs/attacks.md $(ARGS)

bench-across: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.bench.across --write docs/across.md $(ARGS)

bench-shards: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.bench.shards --write docs/redis.md $(ARGS)

bench-levels: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.bench.levels --write docs/redis.md $(ARGS)

scale: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.bench.scale --write docs/scale.md $(ARGS)
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.bench.sessions --write docs/scale.md

footprint: build
	$(IN_BUILD):$(CURDIR) $(BIN)/python -m tests.bench.footprint --write docs/footprint.md $(ARGS)

# Its version and commit stand in its labels.
image:
	$(BUILDER) --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION=$$(git describe --always --dirty 2> /dev/null) --tag $(IMAGE) $(IMAGE_ARGS) .

containers: .venv/stamp
	.ci/test-image
	MOORLINE_PURE=1 $(BIN)/python -m pytest -n 2 --dist loadfile -rA tests/containers $(ARGS)

rolling: .venv/stamp
	.ci/test-image
	$(BIN)/python -m tests.containers.rolling --write docs/rolling.md $(ARGS)

docs: .venv/stamp
	$(BIN)/python -m docs.generate
	$(BIN)/python -m tests.conformance.table

golden: .venv/stamp
	$(BIN)/python -m tests.helm.golden

# Where no advisory service can be reached it says so, and does not fail.
audit: .venv/stamp
	$(BIN)/python -m tests.project.audit

ci:
	.ci/run

# --- set-up ---------------------------------------------------------------------------------------------------

.venv/stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Moorline needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { \
	  $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip -q --python $(BIN)/python install pip; }
	$(BIN)/pip install -q --require-hashes -r requirements.lock
	MOORLINE_PURE=1 $(BIN)/pip install -q --no-deps --no-build-isolation --editable .
	@touch $@

# Compiled modules never lie beside their sources: what runs from the checkout is always what is written there.
# The first stamp is for the compiler, the second for the rest of the packages (a copy takes 0.3 s).
$(BUILD).stamp: .venv/stamp setup.py $(COMPILED)
	@rm -rf $(BUILD)
	@echo "Compiling the data plane (once; falls back to pure Python)"
	@$(BIN)/python setup.py -q build_ext --build-lib $(BUILD) --build-temp build/temp > build.log 2>&1 \
	  || { cat build.log; exit 1; }
	@grep '^moorline: ' build.log || true
	@mkdir -p $(BUILD) && mv build.log build/build.log
	@grep -q 'mypy found errors' build/build.log || touch $@

build: $(BUILD).stamp
	@find $(BUILD) -name '*.py' -delete
	@MOORLINE_PURE=1 $(BIN)/python setup.py -q build_py --build-lib $(BUILD) > /dev/null

COMPILE_LOCK := build/lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
  --no-emit-index-url --no-emit-find-links --no-annotate --no-strip-extras --custom-compile-command 'make lock'

# Only kubernetes.aio needs them, which the image leaves out. (async-timeout is of redis, too.)
UNUSED := aiohttp aiohttp-retry aiohappyeyeballs aiosignal attrs frozenlist propcache yarl

# A tool of its own environment: nothing else needs it.
lock:
	@test -x build/lock/bin/uv || { $(PYTHON) -m venv build/lock && build/lock/bin/pip install -q uv; }
	$(COMPILE_LOCK) --group dev -o requirements.lock pyproject.toml
	$(COMPILE_LOCK) --constraint requirements.lock --extra kubernetes --extra sql $(UNUSED:%=--no-emit-package %) \
	  -o requirements-image.lock pyproject.toml
	$(COMPILE_LOCK) --constraint requirements.lock --group build -o requirements-build.lock

clean:
	rm -rf build dist .venv/stamp *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
