# make demo | test | check | bench | bench-ingest | test-clients | test-engine | lock
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: demo test check bench bench-ingest test-clients test-duckdb-1.5 test-engine lock wheel-smoke clean

# The runtime, from the lock, in $(VENV); the decoders are compiled once, here rather than at the first start.
$(BIN)/.runtime: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements.lock
	$(PIP) install --no-deps --editable .
	$(BIN)/python -m collector.warm_up
	touch $@

# The runtime and the tools of the tests.
$(BIN)/.test: requirements-test.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --require-hashes -r requirements-test.lock
	$(PIP) install --no-build-isolation --no-deps --editable .
	$(BIN)/python -m collector.warm_up
	touch $@ $(BIN)/.runtime

demo: $(BIN)/.runtime
	$(BIN)/fleetmeter demo $(DEMO_FLAGS)

test: $(BIN)/.test
	$(BIN)/pytest -m "not engine" $(TEST_FLAGS)

check: $(BIN)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(BIN)/.test
	$(BIN)/python -m bench

# Spans per server CPU-second, durable and landed, beside the peers that install from the package index.
bench-ingest: $(BIN)/.test
	$(BIN)/python -m bench ingest --peers

test-engine: $(BIN)/.test
	$(BIN)/python tests/engine/environment.py
	$(BIN)/pytest -m engine $(TEST_FLAGS)

# Store, landing and SQL on the older DuckDB that is kept working, laid over the environment.
DUCKDB_TESTS := $(foreach name,store landing archive archive_faults rollups small_answers few_rows sql_door upkeep,tests/collector/test_$(name).py) tests/sql
test-duckdb-1.5: $(BIN)/.test
	$(PIP) install --upgrade --no-deps --target $(VENV)/duckdb-1.5 duckdb==1.5.5
	PYTHONPATH=$(VENV)/duckdb-1.5 $(BIN)/python -c "import duckdb; assert duckdb.__version__ == '1.5.5', duckdb.__file__"
	PYTHONPATH=$(VENV)/duckdb-1.5 $(BIN)/pytest $(DUCKDB_TESTS) $(TEST_FLAGS)

# What some tests send from: OpenTelemetry's SDK of JavaScript, and rotel.
test-clients:
	$(PYTHON) tests/integration/clients/environment.py

wheel-smoke: $(BIN)/.test
	tests/contracts/wheel_smoke.sh $(BIN)/python

# Exact versions and hashes for Python 3.11 and later; no registry address is written. The tests narrow the runtime.
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	--no-emit-find-links --no-annotate
lock:
	$(LOCK) pyproject.toml --extra all --group test --output-file requirements-test.lock
	$(LOCK) pyproject.toml --extra all --constraint requirements-test.lock --output-file requirements.lock

clean:
	rm -rf $(VENV) var dist build .mypy_cache .ruff_cache .pytest_cache
