# Each verb works on a fresh machine: it makes .venv first and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check lint bench clean

demo: .venv/ready
	$(BIN)/python -m flair_export.demo demo

test: check
	$(BIN)/pytest -q -n auto

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lint: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Real patches and trained weights where they lie beside the repository, else a drawn scene.
DATA ?= $(wildcard ../shared/data/flair1)
CHECKPOINT ?= $(wildcard ../shared/data/standin/*_weights.pth)
RESULT ?= benchmarks/results/local.json

bench: .venv/ready
	$(BIN)/flair-bench suite $(DATA:%=--data %) $(CHECKPOINT:%=--checkpoint %) -o $(RESULT)

clean:
	rm -rf .venv demo

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[cpu,export,dev]'
	touch $@
