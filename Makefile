# lobwife's commands; `make help` lists them. Needs Python >= 3.11, git and make.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
PYTEST ?=
BENCH ?= rest claims events pages jobs broker vault client

ISOLATED := .ci/isolated
TESTS = $(ISOLATED) $(RUN) -m pytest --dist loadfile --no-loadscope-reorder --timeout 400 --timeout-method thread
QUIETLY := --quiet --disable-pip-version-check --require-hashes

# In the environment, since arguments of commands are for everybody to see.
ifdef DATABASE_URL
export LOBWIFE_DATABASE_URL := $(DATABASE_URL)
endif

# What another Python installed is of no use to this one.
ifneq ($(shell cat $(VENV)/.installed 2>/dev/null),$(shell $(RUN) -V 2>/dev/null))
.PHONY: $(VENV)/.installed
endif

.DEFAULT_GOAL := help
.PHONY: help run test test-postgres test-fast soak fuzz bench screenshots lint format audit requirements release-check

help: ## say what there is
	@echo "lobwife: the operations centre of a fleet of coding agents. Start with: make run"
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1	\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

run: $(VENV)/.installed $(if $(LOBWIFE_DATABASE_URL),$(VENV)/.installed-postgres) ## prepare what a start needs, then run web and daemon until Ctrl-C (DATABASE_URL=… for PostgreSQL)
	@LOBWIFE_STATE_DIR="$${LOBWIFE_STATE_DIR:-$(CURDIR)/var/state}" VAULT_PATH="$${VAULT_PATH:-$(CURDIR)/var/vault}" \
		exec $(RUN) manage.py serve

test: ## check everything, then run the tests (PYTEST="tests/jobs -k word" for some)
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint audit
	$(TESTS) -m "not soak" -n 4 $(PYTEST)
	@$(MAKE) --no-print-directory test-postgres

test-postgres: $(VENV)/.installed-dev ## run the tests within a process, and some with others, on a PostgreSQL that is started for them (ALL=1 for all)
	$(TESTS) -m "not soak$(if $(ALL),, and (postgres or fast and not git))" -n 3 $(PYTEST)

test-postgres: ISOLATED += LOBWIFE_TEST_DATABASE=postgres

test-fast: $(VENV)/.installed-dev ## run the tests that need no other process, in less than a minute
	$(TESTS) -m "fast and not slow and not git and not soak" -n 2 $(PYTEST)

soak: $(VENV)/.installed-dev ## run the tests that take long by nature
	$(TESTS) -m soak --timeout 0 $(PYTEST)
	$(ISOLATED) $(RUN) bench/kills

fuzz: $(VENV)/.installed-dev ## make up requests from the description of the API, as each role, for some minutes
	$(ISOLATED) LOBWIFE_FUZZ_EXAMPLES=300 $(RUN) -m pytest tests/contract/test_fuzz.py $(PYTEST)

bench: $(VENV)/.installed-dev ## tell how fast it is, in some minutes (BENCH="rest pages" for some of it)
	@failed=; for each in $(BENCH); do echo "bench/$$each"; $(ISOLATED) $(RUN) bench/$$each || failed=1; done; test -z "$$failed"

screenshots: $(VENV)/.installed-dev ## take the pictures of README anew; needs chromium
	$(ISOLATED) $(RUN) docs/screenshots.py

lint: $(VENV)/.installed-dev ## check format, style, types, imports, migrations and the settings
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(ISOLATED) $(RUN) -m mypy
	$(RUN) -m mypy --config-file clients/python/pyproject.toml clients/python/lobwife_client
	$(ISOLATED) $(RUN) -c "from importlinter.cli import lint_imports_command as main; main()"
	$(ISOLATED) $(RUN) -W "ignore:Got an error checking" manage.py makemigrations --check --dry-run
	$(ISOLATED) LOBWIFE_TLS=1 $(RUN) manage.py check --deploy --fail-level WARNING

format: $(VENV)/.installed-dev ## rewrite the code as the style wants it
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

audit: $(VENV)/.installed-dev ## look for known vulnerabilities in what is installed
	@.ci/audit $(RUN)

requirements: $(VENV)/.installed-dev ## pin the newest versions that requirements*.in allow
	$(RUN) -m uv pip compile -q --upgrade --generate-hashes --universal --python-version 3.11 requirements.in -o requirements.txt
	$(RUN) -m uv pip compile -q --upgrade --generate-hashes --universal --python-version 3.11 requirements-scripts.in -o requirements-scripts.txt
	$(RUN) -m uv pip compile -q --upgrade --generate-hashes --universal --python-version 3.11 requirements-postgres.in -o requirements-postgres.txt
	$(RUN) -m uv pip compile -q --upgrade --generate-hashes --universal --python-version 3.11 requirements-dev.in -o requirements-dev.txt

release-check: $(VENV)/.installed-dev ## say whether this can be released: version, changelog, tags, pins; then audit and test
	@$(RUN) .ci/release-check
	@.ci/audit $(RUN)
	@$(MAKE) --no-print-directory test

$(VENV)/.installed: requirements.txt requirements-scripts.txt
	@command -v $(PYTHON) >/dev/null || { echo "There is no $(PYTHON): install Python 3.11 or newer, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11: install a newer one, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) can't make virtual environments: install its venv module (Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@echo "Installing what lobwife needs into $(VENV), once; this takes about half a minute."
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(RUN) -m pip install $(QUIETLY) -r requirements.txt
	@$(RUN) -m pip install $(QUIETLY) -r requirements-scripts.txt
	@$(RUN) -V >$@

$(VENV)/.installed-postgres: requirements-postgres.txt $(VENV)/.installed
	@$(RUN) -m pip install $(QUIETLY) -r requirements-postgres.txt
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "Installing what the tests need into $(VENV), once; this takes about a minute."
	@$(RUN) -m pip install $(QUIETLY) -r requirements-dev.txt
	@touch $@
