# make demo      a site and its daemon at work
# make test      everything that is checked, in the order below
# make format    write the sources as the formatter wants them
# make bench     the figures, measured on this machine
# make faults    promises under faults, full size (P=P1 DB=postgresql SEED=7 for one); hours for all
# make tox       the built wheel under every interpreter and Django that is supported
# make coverage  which lines the tests reach
# make clean     remove what was built (the environment .venv stays)
#
# Variables: PYTHON (the interpreter that .venv is made with), WORKERS (tests at a time), OPTIONS (of
# the demo: make demo OPTIONS="--site=noi --port=8042").

.NOTPARALLEL:
.PHONY: demo test layout lint types sqlite postgresql mariadb docs doctests \
        faults somefaults format bench coverage tox clean install mysqlclient

VENV = .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet
# Most tests wait for something: twice as many as there are processors keep them busy; more where a
# server does a part of the work.
WORKERS ?= $(shell expr 2 \* $$(nproc))
postgresql mariadb: WORKERS = $(shell expr 3 \* $$(nproc))
PYTEST = $(BIN)/python -m pytest --numprocesses=$(WORKERS)

# Hundreds of processes are started, and each would compile the package anew where somebody has
# forbidden to keep what was compiled.
unexport PYTHONDONTWRITEBYTECODE

# A name on PATH may be a shim without an interpreter behind it: so each is asked.
FITS = import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13 python3.14 python, \
    $(shell $(name) -c '$(FITS)' 2>/dev/null && echo $(name))))

demo: $(VENV)/.demo
	$(BIN)/python example_project/demo.py $(OPTIONS)

test: layout lint types sqlite postgresql mariadb doctests docs somefaults

layout: install
	$(BIN)/python -m pytest --quiet tests/test_layout.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

sqlite: install mysqlclient
	LINOD_TEST_DB=sqlite $(PYTEST)

postgresql: install
	LINOD_TEST_DB=postgresql $(PYTEST) --only-database

mariadb: install mysqlclient
	LINOD_TEST_DB=mariadb $(PYTEST) --only-database

doctests: install
	$(BIN)/python -m pytest --quiet --doctest-modules linod

docs: install
	$(BIN)/sphinx-build --fail-on-warning --quiet docs docs/_build/html

# Real daemons on servers of their own, see tests/faults.
faults: install mysqlclient
	$(BIN)/python -m tests.faults $(or $(P),all) $(or $(DB),all) $(if $(SEED),--seed $(SEED))
	$(if $(P),,$(BIN)/python -m tests.faults.logserver)

# The same promises with fewer faults, in about five minutes.
somefaults: install mysqlclient
	$(BIN)/python -m tests.faults --size small

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install
	$(BIN)/python -m benchmarks

coverage: install
	$(PYTEST) --cov --cov-report=term --cov-report=html

# Interpreters that only pyenv has are found as well.
tox: install
	@$(PIP) install "tox>=4.25"
	PATH="$$PATH$$(printf ':%s' $(HOME)/.pyenv/versions/3.1[1-9]*/bin)" $(BIN)/tox

clean:
	rm -rf build dist htmlcov .coverage .coverage.* docs/_build .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

install: $(VENV)/.dev

# Two steps, so that the demo does not wait for the tools. An existing .venv is brought up to date.
$(VENV)/.pip: pyproject.toml
	@test -x $(BIN)/python || test -n "$(PYTHON)" || { \
	    echo "No Python 3.11 or newer with venv and pip on PATH: install one" \
	         "(Debian: python3-venv), or say make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what pyproject.toml names into $(VENV) ..."
	@$(PIP) install --upgrade "pip>=25.1"
	@touch $@

$(VENV)/.demo: $(VENV)/.pip
	@$(PIP) install --editable . --group demo
	@touch $@

# What the demo needs is part of it.
$(VENV)/.dev: $(VENV)/.pip
	@$(PIP) install --editable ".[channels,cron]" --group dev
	@touch $@ $(VENV)/.demo

# mysqlclient has no wheel: without a C compiler or MariaDB's library it cannot be installed.
mysqlclient: install
	@$(BIN)/python -c 'import MySQLdb' 2>/dev/null \
	|| $(PIP) install --group mariadb >$(VENV)/mysqlclient.log 2>&1 \
	|| echo "mysqlclient cannot be installed, so the MariaDB tests will be skipped; on Debian:" \
	        "apt-get install gcc pkg-config libmariadb-dev python3-dev ($(VENV)/mysqlclient.log)"
