# Every target installs what is missing first. Options go through ARGS:
#   make search ARGS="--space mobilenet --max-flops 3M --data DIR"
#   make test ARGS="-x -k frontier"

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
STAMP := .venv/.installed
# Two at a time, a file's tests together: their fixtures are made once.
PROCESSES ?= -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help search test slow lint docs wheel clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'

search: $(STAMP) ## search digits at 300k FLOPs, or as ARGS say
	$(BIN)/python run_search.py $(or $(ARGS),--max-flops 300k)

test: $(STAMP) ## the ordinary test suite
	$(BIN)/python -m pytest $(PROCESSES) $(ARGS)

# pytest ends with 5 when it collected nothing, which is no failure here.
slow: $(STAMP) ## the tests marked slow
	$(BIN)/python -m pytest -m slow $(PROCESSES) $(ARGS) || test $$? -eq 5

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(STAMP) ## build the site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean

# build/ goes first: setuptools would pack files that were deleted since.
wheel: $(STAMP) ## build the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .

clean: ## remove what was built and cached, keep .venv and runs/
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . \( -path ./.venv -o -path ./.git -o -path ./runs \) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# The constraints are what keeps the install to the tested versions; never install without them.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	@touch $@
