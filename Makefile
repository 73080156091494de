# Every target installs the packages it needs first. Options are passed in ARGS:
#   make search ARGS="--space mobilenet --max-flops 3M --data DIR"
#   make test ARGS="-x -k frontier"

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# Stamps: run-time packages installed; developers' packages installed too.
RUNTIME := .venv/.installed
DEVELOPERS := .venv/.developers
# Two processes; one that runs out of tests takes some of the other's.
PROCESSES ?= -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help search test slow lint docs wheel clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'

search: $(RUNTIME) ## search digits at 300k FLOPs, or with the options in ARGS
	$(BIN)/python run_search.py $(or $(ARGS),--max-flops 300k)

test: $(DEVELOPERS) ## run the ordinary test suite
	$(BIN)/python -m pytest $(PROCESSES) $(ARGS)

# pytest exits with 5 if it collected no test, which is not a failure here.
slow: $(DEVELOPERS) ## run the tests marked slow
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile $(ARGS) || test $$? -eq 5

lint: $(DEVELOPERS) ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DEVELOPERS) ## build the site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --clean

# Without removing build/, setuptools would include files that have been deleted since.
wheel: $(DEVELOPERS) ## build the wheel into dist/
	rm -rf build dist
	$(BIN)/python -m build --wheel --outdir dist .

clean: ## remove builds and caches, keep .venv and runs/
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . \( -path ./.venv -o -path ./.git -o -path ./runs \) -prune -o -type d -name __pycache__ -exec rm -rf {} +

# Python compiles modules on first import, so the installers compile only if
# PYTHONDONTWRITEBYTECODE prevents that. The constraints keep the tested versions.
NO_BYTECODE := $(PYTHONDONTWRITEBYTECODE)
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt $(if $(NO_BYTECODE),,--no-compile)
UV := uv pip install -q -c constraints.txt $(if $(NO_BYTECODE),--compile-bytecode) --python $(BIN)/python

# $(call install,PACKAGES) uses uv, installed from the index if it is not on the path, and pip where
# uv fails. uv does not read pip's configuration, which may name a folder or an index with a CPU
# build of torch: torch is installed by pip, unless UV_TORCH_BACKEND selects a build for uv. The
# index of pip's configuration and the system's certificates are passed on to uv.
define install
	@test -n "$$UV_TORCH_BACKEND" || $(PIP) torch
	@PATH="$$PATH:$(BIN)"; export UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1; \
	export UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}"; \
	{ command -v uv >/dev/null || $(PIP) uv; } 2>.venv/uv.log && $(UV) $(1) 2>>.venv/uv.log || { \
	echo "uv could not install the packages (reason in .venv/uv.log): pip installs them, in a few minutes"; \
	$(PIP) $(1); }
endef

$(RUNTIME): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the run-time packages into .venv"
	$(call install,-e .)
	@touch $@

$(DEVELOPERS): $(RUNTIME)
	@echo "installing the developers' packages into .venv"
	$(call install,-e ".[dev]")
	@touch $@
