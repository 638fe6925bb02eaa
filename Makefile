# `make train` and `make test` need nothing but Python 3.11, 3.12 or 3.13 (and a C compiler, which `pesq` is built with).
PYTHON ?= python3
BIN := .venv/bin
OUT ?= runs/demo

.PHONY: setup train test lint types unit docs clean

setup: .venv/ready

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

train: setup
	$(BIN)/python -m experiments.train --data demo --preset demo --out $(OUT) $(ARGS)

test: lint types unit

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/pyright

unit: setup
	$(BIN)/python -m pytest --quiet --numprocesses=2 --durations=10 $(ARGS)

docs: .venv/docs
	$(BIN)/mkdocs build --strict

.venv/docs: .venv/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv *.egg-info site
