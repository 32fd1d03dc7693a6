# Every target works on a fresh machine with Python 3.10 or newer and make: the first one that needs it
# makes .venv and installs this clone into it. `make demo PYTHON=python3.13` chooses the interpreter.

PYTHON ?= python3
VENV ?= .venv
TESTS ?=
ROWS ?=
AGAINST ?=
JOBS ?= auto
DATA ?=
MARKED ?= not e2e and not slow
# Seconds after which a test hangs: then it says where each thread stands, and the others go on.
HUNG := 1200

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SITE := $(VENV)-docs
PROJECTS := pyproject.toml testkit/pyproject.toml $(wildcard instrumentors/*/pyproject.toml)
PACKAGES := --editable . $(foreach project,$(wildcard instrumentors/*/pyproject.toml) testkit/pyproject.toml,--editable ./$(dir $(project)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format types conformance bench bench-peers docs collector dist e2e clean

help:  ## Say what there is to do
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1	\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(INSTALLED)  ## Run examples/weather_agent.py under opentelemetry-instrument and show what it did
	@$(BIN)/python -m spanrelay_testkit.demo

test: $(INSTALLED)  ## Run the tests but for the slow ones, in minutes (TESTS=path for some of them, JOBS=0 for one after the other)
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal --timeout $(HUNG) -m "$(MARKED)" $(TESTS)

# The slow tests, marked `slow`, are whole pages of commands, which install, and the benchmarks.
# What asks for packages that do not go beside others is tested in environments of its own, since they are large:
# frameworks, instrumentation of others beside ours, frameworks that only others record, and the oldest SDKs.
test-all: MARKED = not e2e
test-all: export SPANRELAY_TEST_CLAUDE_AGENT_SDK = 1
test-all: export SPANRELAY_TEST_CODING_AGENTS = 1
test-all: export SPANRELAY_TEST_DEEPAGENTS = 1
test-all: export SPANRELAY_TEST_EVALUATION = 1
test-all: export SPANRELAY_TEST_EXTRAS = 1
test-all: export SPANRELAY_TEST_FOREIGN = 1
test-all: export SPANRELAY_TEST_FOREIGN_FRAMEWORKS = 1
test-all: export SPANRELAY_TEST_MCP = 1
test-all: export SPANRELAY_TEST_NAT = 1
test-all: export SPANRELAY_TEST_NEMO = 1
test-all: export SPANRELAY_TEST_OLDEST = 1
test-all: export SPANRELAY_TEST_OPENAI_AGENTS = 1
test-all: export SPANRELAY_TEST_POLYGLOT = 1
test-all: export SPANRELAY_TEST_PROVIDERS = 1
test-all: export SPANRELAY_TEST_PYDANTIC_AI = 1
test-all: export SPANRELAY_TEST_S3 = 1
test-all: export SPANRELAY_TEST_SPARK = 1
test-all: export SPANRELAY_TEST_TRAINING = 1
test-all: export SPANRELAY_TEST_UNGUARDED = 1
test-all: export SPANRELAY_TEST_WEB_SERVERS = 1
test-all: test  ## Run all tests, also the slow ones and those that need environments of their own

lint: $(INSTALLED)  ## Check style and layout
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(INSTALLED)  ## Lay out the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(INSTALLED)  ## Check types (strict)
	$(BIN)/pyright --pythonpath $(BIN)/python

conformance: $(INSTALLED)  ## Ask every recorded exchange of a provider once more through its SDK (DATA=folder for another folder of them)
	@$(BIN)/python -m tests.conformance $(DATA)

bench: $(INSTALLED)  ## Measure what recording costs (ROWS=… for some rows, AGAINST=revision for how it compares with an earlier build)
	$(BIN)/python -m benchmarks $(if $(AGAINST),--against $(AGAINST)) $(ROWS)

bench-peers: $(INSTALLED)  ## The same work under other instrumentations, each in its own environment
	$(BIN)/python -m benchmarks --peers

docs: $(SITE)/.installed  ## Build the pages as a site into build/docs/site; a link that leads nowhere is an error
	@$(SITE)/bin/python -I testkit/src/spanrelay_testkit/documentation.py $(SITE)/bin/zensical

dist: $(INSTALLED)  ## Build every distribution into dist/, look into it, and run the demo with it where the clone is not
	@$(BIN)/python -m spanrelay_testkit.release

collector:  ## Build the OpenTelemetry Collector of collector-config/ (needs Go)
	collector-config/build

e2e: $(INSTALLED)  ## Prove the way from an app through a real collector to a trace UI
	@collector-config/build || [ $$? -eq 3 ]  # 3 = no Go: the tests then say why they skip
	$(BIN)/python -m pytest -q -rs --timeout $(HUNG) -m e2e $(or $(TESTS),tests/e2e)

clean:  ## Remove what make has made; trajectories stay
	rm -rf $(VENV) $(SITE) build dist .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

# pip says nothing for minutes or too much; a line that counts says that it goes on. uv takes seconds where it is there.
# Where no terminal can write the line over, as in a log, it is written once.
COUNT := { test -t 1 && again='\r' || again=; awk -v again="$$again" ' \
	/^(Collecting|Requirement already|Obtaining)/ { n++; if (again) { printf "%s  %d packages looked at", again, n; fflush() } } \
	/^Installing collected/ { printf "%s  %d packages looked at, installing them", again, n; fflush() } \
	/^ERROR|^error/ { printf "\n%s", $$0 } END { print "" }'; }
PIP_OPTIONS := --constraint constraints.txt --build-constraint constraints.txt $(PACKAGES) openai --group dev

$(INSTALLED): $(PROJECTS) hatch_build.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "SpanRelay needs Python 3.10 or newer; name one: make PYTHON=python3.12" >&2; exit 1; }
	@test ! -x $(BIN)/python || test "$(origin PYTHON)" = file || \
		test "$$($(BIN)/python -V)" = "$$($(PYTHON) -V)" || { \
		echo "$(VENV) has $$($(BIN)/python -V), not $$($(PYTHON) -V); \`make clean\` first" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make virtual environments; Debian and Ubuntu: apt install python3-venv" >&2; \
		rm -rf $(VENV); exit 1; }
	@if command -v uv >/dev/null; then echo "installing into $(VENV) with uv (once)"; \
		uv pip install --python $(BIN)/python --quiet $(PIP_OPTIONS); \
	else echo "installing into $(VENV) (once; a minute or two)"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip && \
		{ { $(BIN)/python -m pip install --disable-pip-version-check $(PIP_OPTIONS) 2>&1; echo $$? >$(VENV)/.status; } \
			| tee $(VENV)/install.log | $(COUNT); test "$$(cat $(VENV)/.status)" = 0 || { \
			tail -n 20 $(VENV)/install.log >&2; exit 1; }; }; fi
	@touch $@

# What makes the site needs nothing of ours, and is in an environment of its own.
$(SITE)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "the site needs Python 3.11 or newer; name one: make docs PYTHON=python3.12" >&2; exit 1; }
	@test -x $(SITE)/bin/python || $(PYTHON) -m venv $(SITE)
	@if command -v uv >/dev/null; then uv pip install --python $(SITE)/bin/python --quiet --constraint constraints.txt --group docs; \
	else $(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt pip && \
		$(SITE)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group docs; fi
	@touch $@
