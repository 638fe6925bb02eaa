# `make train` and `make test` need nothing but Python 3.11, 3.12 or 3.13 (and a C compiler, which `pesq` is built with).
# Another interpreter has an environment of its own: `make test PYTHON=python3.13` makes and uses .venv-3.13.
PYTHON ?= python3
ifeq ($(origin PYTHON), file)
VENV ?= .venv
else
VENV ?= .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
endif
BIN := $(VENV)/bin
OUT ?= runs/demo
INTERPRETERS := python3.11 python3.12 python3.13
PYTEST := $(BIN)/python -m pytest --quiet --numprocesses=2 --dist=worksteal

.PHONY: setup train small-model test test-fast test-all lint types unit mutations docs clean

setup: $(VENV)/ready

$(VENV)/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

train: setup
	$(BIN)/python -m experiments.train --data demo --preset demo --out $(OUT) $(ARGS)

# The model that ships: many hours; started again it goes on where it stood. CORPORA: folders with speech/ and noise/.
CORPORA ?= ../shared/corpus_many ../shared/corpus
small-model: setup
	$(BIN)/python -m experiments.small_model --corpora $(CORPORA) --out runs/small $(ARGS)

test: lint types unit

# What to run after every change; the rest takes several times as long.
test-fast: setup
	$(PYTEST) -m "not slow and not browser and not subprocess and not gpu" $(ARGS)

# The fast tests with every interpreter that this machine has.
test-all:
	@found=; failed=; for python in $(INTERPRETERS); do \
		if ! $$python -c '' 2> /dev/null; then echo "$$python: not on this machine"; continue; fi; \
		echo "$$python:"; found="$$found $$python"; \
		$(MAKE) --no-print-directory test-fast PYTHON=$$python || failed="$$failed $$python"; \
	done; echo "tested:$$found; failed:$${failed:- none}"; test -n "$$found" && test -z "$$failed"

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/pyright --pythonpath $(BIN)/python

unit: setup
	$(PYTEST) --durations=10 $(ARGS)

# Whether the tests notice mistakes: results/mutations.md.
mutations: setup
	$(BIN)/python -m experiments.mutations $(ARGS)

docs: $(VENV)/docs
	$(BIN)/mkdocs build --strict

$(VENV)/docs: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .venv-3.* *.egg-info site
