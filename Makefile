# Both commands make their own environment in .venv, once. torch is what pip finds for this machine. Python compiles
# what it imports, and keeps that whatever the surroundings say: the tests start noref a hundred times. To compile all
# that is installed takes pip longer than to install it.
export PYTHONDONTWRITEBYTECODE :=
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test env bench

env: .venv/installed

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile "torch>=2.6,<2.14"
	$(BIN)/python -m pip install --quiet --no-compile -e ".[dev]"
	touch $@

# The main job on simulated data: see demo/report.html afterwards.
demo: env
	OMP_WAIT_POLICY=passive $(BIN)/noref demo --output demo --resume

# Linters, types, layers and every test. In order: files of few, long tests must not come last.
test: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=40

# Speed and memory beside the peers, see docs/speed.md; BENCH="--quick" for what got slower since the last
# release, BENCH="--device cuda" on a GPU. The peers get an environment of their own; one that cannot be
# installed there is named and skipped, and none of them may bring another torch.
bench: .venv-bench/installed
	OMP_WAIT_POLICY=passive .venv-bench/bin/python -m benchmarks.speed $(BENCH)

.venv-bench/installed: pyproject.toml benchmarks/speed/peers.txt
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet "torch>=2.6,<2.14"
	.venv-bench/bin/python -m pip freeze | grep ^torch== > .venv-bench/constraints.txt
	.venv-bench/bin/python -m pip install --quiet -e .
	while read -r peer; do \
	  .venv-bench/bin/python -m pip install --quiet --constraint .venv-bench/constraints.txt "$$peer" \
	    || echo "skipped: $$peer cannot be installed"; \
	done < benchmarks/speed/peers.txt
	touch $@
