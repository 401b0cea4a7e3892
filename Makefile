# One environment of the project's own: `make chat` opens the app, `make test` runs the suite.

VENV ?= .venv
PYTHON ?=
BIN := $(VENV)/bin
# A change of pyproject.toml or of the folder's place makes another key, and so another set-up.
KEY := $(shell { pwd; cat pyproject.toml; } | cksum | tr ' ' '-')
MADE := $(VENV)/.made
RUN_READY := $(VENV)/.ready-run-$(KEY)
TEST_READY := $(VENV)/.ready-test-$(KEY)
SOAK_MINUTES ?= 30
SOAK_OPTIONS ?=
FUZZ_INPUTS ?= 100000
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check $(if $(CI),--quiet)

.DEFAULT_GOAL := help
.PHONY: help chat setup setup-test test suite check card format lint types imports soak fuzz kills snapshots recording clean

help:
	@echo 'make chat     set up, fetch the starter model, open the app'
	@echo 'make test     set up with test extras, check and run the whole suite'
	@echo 'make check    format, lint, types and import rules, without the tests'
	@echo 'make soak     use the app for half an hour and see that nothing grows (SOAK_MINUTES=30)'
	@echo 'make fuzz     damage model files 100,000 times and see what their readers do (FUZZ_INPUTS=)'
	@echo 'make card     run the tests of kernels, graphs and uploads on the card of this machine'
	@echo 'make kills    end the app by force two hundred times while it streams'
	@echo 'make snapshots   take the pictures of all screens anew, for a look at the difference'
	@echo 'make format   write the format and the fixes that the linter is sure of'
	@echo 'make recording  film the README with the starter model: tests/recording/quantchat.svg'
	@echo 'make clean    remove the environment and everything that was built'

chat: $(RUN_READY)
	@$(BIN)/quantchat pull starter || echo 'The app opens without the starter model.' >&2
	@$(BIN)/quantchat

setup: $(RUN_READY)
setup-test: $(TEST_READY)

test: $(TEST_READY)
	@$(MAKE) --no-print-directory -j 2 check suite

# One process a core, four at most; many tests start processes, which need not compile Python anew.
suite: export PYTHONDONTWRITEBYTECODE =
suite: $(TEST_READY)
	@$(BIN)/pytest -n logical --maxprocesses 4 --dist worksteal

check: lint types imports

lint: $(TEST_READY)
	@$(BIN)/ruff format --check --quiet . || { echo 'not formatted: run "make format"' >&2; exit 1; }
	@$(BIN)/ruff check --quiet .

# kernels/ is checked by its folder's name: type checkers do not see it as quantchat.kernels.
types: $(TEST_READY)
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/mypy --no-error-summary kernels

imports: $(TEST_READY)
	@$(BIN)/lint-imports --no-logo > $(VENV)/imports.log 2>&1 || { cat $(VENV)/imports.log; exit 1; }

# SOAK_OPTIONS=--real lets the starter model answer.
soak: $(TEST_READY)
	@$(BIN)/python tests/soak/soak.py --minutes $(SOAK_MINUTES) $(SOAK_OPTIONS)

fuzz: $(TEST_READY)
	@$(BIN)/python tests/fuzz/fuzz.py --inputs $(FUZZ_INPUTS)

snapshots: $(TEST_READY)
	@QUANTCHAT_TAKE_SNAPSHOTS=1 $(BIN)/pytest -q tests/tui/test_snapshots.py

format: $(TEST_READY)
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

# One process: a card is not shared by tests that fill it, and each would start its own compilers.
card: $(TEST_READY)
	@$(BIN)/pytest -m gpu

kills: $(TEST_READY)
	@QUANTCHAT_KILLS=200 $(BIN)/pytest -q tests/tui/test_kill.py

recording: $(RUN_READY)
	@$(BIN)/quantchat pull starter
	@$(BIN)/python tests/recording/record.py

clean:
	rm -rf $(VENV) build dist quantchat.egg-info .mypy_cache .ruff_cache .pytest_cache
	rm -rf .hypothesis .import_linter_cache
	find quantchat kernels themes tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@found=; \
	for name in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11 python; do \
	    if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found=$$name; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo 'quantchat: needs Python 3.11 or newer; install one, or name it: make chat PYTHON=/path/to/python3' >&2; \
	    exit 1; \
	fi; \
	if ! "$$found" -c 'import venv, ensurepip' 2>/dev/null; then \
	    echo "quantchat: $$found cannot make environments; on Debian and Ubuntu: apt install python3-venv" >&2; \
	    exit 1; \
	fi; \
	"$$found" -m venv --clear $(VENV)
	@touch $@

$(RUN_READY): $(MADE)
	@echo 'Installing quantchat into $(VENV) ...'
	@$(PIP_INSTALL) -e .
	@rm -f $(VENV)/.ready-*
	@touch $@

# The test extras contain all that the app needs.
$(TEST_READY): $(MADE)
	@echo 'Installing quantchat and its test tools into $(VENV) ...'
	@$(PIP_INSTALL) -e '.[test]'
	@rm -f $(VENV)/.ready-*
	@touch $(RUN_READY) $@
