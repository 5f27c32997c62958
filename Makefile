# The two commands to know: `make demo` and `make test`. Both install what they need into .venv first.
#
#   PYTHON=python3.12    the interpreter to build the environment with
#   VENV=/some/where     where the environment lies
#   TORCH='torch==2.13'  which PyTorch to install; by default the newest

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch
EPOCHS ?= 30
OUT ?= demo
SECONDS ?= 60
SEED ?= 0
ONLY ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := training export runtime tests benchmarks data

.PHONY: help demo test test-lowest test-runtime check coverage format bench bench-check gpu fuzz soak mutants wheel clean

help:
	@echo "make demo          install, train on the embedded faces, export, and draw new faces"
	@echo "make test          install and run the tests"
	@echo "make test-lowest   the same with the oldest releases that the project allows"
	@echo "make check         linters and type checker"
	@echo "make coverage      what the runtime's tests reach of it"
	@echo "make test-runtime PYTHON=python3.13   the runtime's tests in an environment without PyTorch"
	@echo "make bench         benchmarks on this machine, written to benchmarks/results/"
	@echo "make bench-check   the same, and fails where a ratio that is promised is not reached"
	@echo "make gpu           everything that needs an NVIDIA GPU: tests, parity and benchmarks on CUDA"
	@echo "make fuzz SECONDS=60 SEED=0      mutated files against everything that reads files"
	@echo "make soak ONLY=L3,L7             long runs and faults, a table of figure against limit; by default all"
	@echo "make mutants ONLY=wire.py        small changes to the scanner and the bundle's reader, which tests must notice"
	@echo "make wheel         build the wheel into dist/"

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "installing PyTorch and the rest into $(VENV): some minutes, once"
	$(BIN)/python -m pip install --quiet '$(TORCH)' -e '.[cpu,train,dev]'
	@touch $@

demo: $(STAMP)
	@BIN=$(abspath $(BIN)) EPOCHS=$(EPOCHS) OUT=$(OUT) bash data/demo.sh

# A worker for each processor; whoever has done with its own tests takes over some of another's. More threads than
# one of PyTorch's in each would only wait for each other. Modules are compiled once, whatever the environment says,
# and not anew in each of the thousand processes that are started.
test: $(STAMP)
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n logical --dist worksteal

check: $(STAMP)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/bandit -q -ll -r runtime/vae_runtime export/vae_export training/vae_training

# The runtime's lines and branches that its tests reach, in forked and started processes too. Tests that bound the
# size of files, watch what is opened or interrupt at any moment catch the measuring itself, and fail under it.
coverage: $(STAMP)
	-$(BIN)/python -m coverage run -m pytest -q tests/runtime tests/test_wall.py
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report --fail-under=97

format: $(STAMP)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

# An environment of its own for each interpreter, with the runtime's needs and nothing else.
test-runtime: RUNTIME = $(VENV)-runtime-$(shell $(PYTHON) -c 'import platform; print(platform.python_version())')
test-runtime:
	$(PYTHON) -m venv $(RUNTIME)
	$(RUNTIME)/bin/python -m pip install --quiet '.[cpu]' pytest hypothesis
	$(RUNTIME)/bin/python -m pytest -q tests/runtime tests/test_wall.py

# An environment of its own, with the oldest release of everything that pyproject.toml allows; pip finds only the newest.
test-lowest: LOWEST = $(VENV)-lowest
test-lowest:
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet uv
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e '.[cpu,train,dev]'
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -q -n logical --dist worksteal

bench: $(STAMP)
	$(BIN)/python -m pytest benchmarks -q --save-results

bench-check: $(STAMP)
	$(BIN)/python -m pytest benchmarks -q --check-promises

# An environment of its own, with the wheel of onnxruntime for CUDA, which overwrites the one for the CPU.
gpu: GPU = $(VENV)-gpu
gpu:
	$(PYTHON) -m venv $(GPU)
	$(GPU)/bin/python -m pip install --quiet '$(TORCH)' -e '.[gpu,train,dev]'
	$(GPU)/bin/python -m pytest -q -rs -m cuda
	$(GPU)/bin/python -m pytest benchmarks -q -rs --save-results

fuzz: $(STAMP)
	$(BIN)/python tests/fuzz --seconds $(SECONDS) --seed $(SEED)

soak: $(STAMP)
	$(BIN)/python tests/soak --only '$(ONLY)'

# An environment of its own, with what makes the mutants; its tests come first, since there they see all of it.
mutants: MUTATION = $(VENV)-mutation
mutants:
	$(PYTHON) -m venv $(MUTATION)
	$(MUTATION)/bin/python -m pip install --quiet '$(TORCH)' -e '.[cpu,train,dev,mutation]'
	OMP_NUM_THREADS=1 $(MUTATION)/bin/python -m pytest -q tests/mutation
	OMP_NUM_THREADS=1 $(MUTATION)/bin/python tests/mutation --only '$(ONLY)'

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist demo .coverage .coverage.* .mypy_cache .ruff_cache .hypothesis .benchmarks
