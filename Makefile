# Each verb works on a fresh machine: it makes .venv first and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
PYTHON310 ?= $(shell for p in python3.10 $$HOME/.pyenv/versions/3.10.*/bin/python3.10; do \
	$$p -c '' 2>/dev/null && echo $$p && break; done)

.PHONY: demo quick test test310 soak check docs lint bench constraints clean gpu-emulated prepared

demo: .venv/ready
	$(BIN)/python -m flair_export.demo demo

# In two processes' lives: PyTorch and hundreds of models of OpenVINO in one of them have ended it.
TORCH := tests/export tests/bench tests/docs
test: prepared $(if $(PYTHON310),test310)
	$(BIN)/pytest -q -n auto $(TORCH:%=--ignore %)
	$(BIN)/pytest -q -n auto $(TORCH)

# Checks, and beside them the emulated GPU: where it cannot be built, its tests skip and say why.
prepared: .venv/ready
	$(MAKE) --no-print-directory -j2 -k check emulated-if-possible

.PHONY: emulated-if-possible
emulated-if-possible: .venv/ready
	-$(BIN)/python tests/emulated/build.py

# A driver of emulated GPUs and the real pycuda, from source: once, in .gpu-emulated.
gpu-emulated: .venv/ready
	$(BIN)/python tests/emulated/build.py

# The oldest Python the engine supports, where one is installed.
test310: .venv310/ready
	.venv310/bin/pytest -q -n auto tests/engine --ignore tests/engine/reading/test_odd_files.py

# What needs no torch, no killed processes and no real data: 80 s on two cores.
quick: check
	$(BIN)/pytest -q -n auto -m 'not slow and not gpu' tests/engine tests/test_rooms.py tests/test_public.py

# Runs disturbed in every way, thousands of times; prints a table. FLAIR_SOAK=0.1 is a tenth.
FLAIR_SOAK ?= 1
soak: emulated-if-possible
	FLAIR_SOAK=$(FLAIR_SOAK) $(BIN)/pytest -q -n auto tests/faults tests/export/test_real_plans.py

# The commands, links and Python of README.md and docs/.
docs: .venv/ready
	$(BIN)/pytest -q -n auto tests/docs

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin

lint: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Real patches and trained weights where they lie beside the repository, else a drawn scene.
DATA ?= $(wildcard ../shared/data/flair1)
CHECKPOINT ?= $(wildcard ../shared/data/standin/*_weights.pth)
RESULT ?= benchmarks/results/local.json

bench: .venv/ready
	$(BIN)/flair-bench suite $(DATA:%=--data %) $(CHECKPOINT:%=--checkpoint %) -o $(RESULT)

# The versions at hand, without GPU libraries, which pip chooses by platform.
constraints: .venv/ready
	(echo "# Versions that the tests have passed with, on CPython 3.11, Linux x86-64:"; \
	 echo "#   pip install -c constraints.txt '.[cpu]'"; \
	 echo "# engine/docker has those of TensorRT per generation of GPUs."; \
	 $(BIN)/pip freeze --exclude-editable | grep -viE '^(nvidia|cuda|triton|tensorrt)') > constraints.txt

clean:
	rm -rf .venv .venv310 .gpu-emulated demo

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[cpu,export,dev]'
	touch $@

.venv310/ready: pyproject.toml
	$(PYTHON310) -m venv .venv310
	.venv310/bin/pip install --quiet --editable '.[cpu,dev]'
	touch $@
