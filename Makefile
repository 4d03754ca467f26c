# Two commands matter to most people: `make demo` and `make test`. Everything runs in .venv.
# On Windows use WSL, or run the commands below by hand with .venv\Scripts in place of .venv/bin.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := $(PIP) install --quiet --constraint constraints/test.txt
SOURCES := src tests tools benchmarks examples .ci

.PHONY: demo test test-external external-environments lint types arch docs bench format wheel clean

demo: .venv/demo.installed  ## plan a real fine-tune over the whole catalogue
	$(BIN)/rigwise plan examples/finetune-llama.toml --output demo-plan.json --report demo-report.html

test: .venv/test.installed  ## the whole suite; needs no GPU and no network
	$(BIN)/python -m pytest -n 2 -q

# A Python with skypilot, gpuhunt and ortools, which stand apart from the package and its tests.
PEERS ?= .venv-peers/bin/python

# Pythons with skypilot or dstack, and pytest and what rigwise itself needs.
skypilot_PACKAGES := 'skypilot==0.14.1' pytest numpy click pydantic psutil rich
dstack_PACKAGES := 'dstack==0.22.5' pytest numpy click pydantic psutil rich
SKYPILOT ?= .venv-skypilot/bin/python
DSTACK ?= .venv-dstack/bin/python
schemathesis_PACKAGES := 'schemathesis==4.32.5'
SCHEMATHESIS ?= .venv-schemathesis/bin/schemathesis

test-external:  ## beside other planners and clouds, in environments of their own: make test-external PEERS=PYTHON
	@for python in "$(SKYPILOT)" "$(DSTACK)"; do \
	  if [ -x "$$python" ]; then PYTHONPATH=src "$$python" -m pytest -q tests/test_setup_external.py || exit 1; \
	  else echo "test-external: skipped, there is no $$python (skypilot, dstack)"; fi; \
	done
	@if [ ! -x "$(SCHEMATHESIS)" ]; then echo "test-external: skipped, there is no $(SCHEMATHESIS)"; else \
	  $(MAKE) --no-print-directory .venv/test.installed && \
	  SCHEMATHESIS="$(abspath $(SCHEMATHESIS))" $(BIN)/python -m pytest -q tests/test_web_external.py; \
	fi
	@if [ ! -x "$(PEERS)" ]; then \
	  echo "test-external: skipped, there is no $(PEERS) (skypilot, gpuhunt, ortools)"; \
	else \
	  $(MAKE) --no-print-directory .venv/test.installed && \
	  $(BIN)/python benchmarks/bench_choice.py --peers "$(PEERS)" && \
	  $(BIN)/python benchmarks/bench_plan_scale.py --part stages --part placement --peers "$(PEERS)"; \
	fi

external-environments: .venv-skypilot/installed .venv-dstack/installed .venv-schemathesis/installed  ## for test-external

.venv-%/installed:
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip --disable-pip-version-check install --quiet $($*_PACKAGES)
	@touch $@

lint: .venv/lint.installed  ## style and formatting
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)

types: .venv/lint.installed  ## mypy, strict
	$(BIN)/mypy

arch: .venv/lint.installed  ## which package may import which
	$(BIN)/lint-imports --no-logo --no-cache

docs: .venv/docs.installed  ## the documentation; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir site

bench: .venv/test.installed  ## the figures of benchmarks/README.md
	for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

format: .venv/lint.installed  ## rewrite what `make lint` would complain about
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

wheel: .venv/lint.installed  ## a wheel in dist/
	rm -rf dist
	$(PIP) wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf .venv dist site build demo-plan.json demo-report.html

.venv/demo.installed: pyproject.toml constraints/test.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rigwise needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable '.[plot]'
	@touch $@

.venv/pip.upgraded: .venv/demo.installed
	$(INSTALL) 'pip>=25.1'
	@touch $@

.venv/lint.installed: .venv/pip.upgraded
	$(INSTALL) --group lint
	@touch $@

.venv/test.installed: .venv/pip.upgraded
	$(INSTALL) --editable '.[plot,torch,onnx,jax,store,postgres,parquet,bench,judge,compare,nvidia,ray,slurm,web,lab]' --group test --group frameworks --group beside
	$(INSTALL) --no-deps timm
	@touch $@

.venv/docs.installed: .venv/pip.upgraded
	$(INSTALL) --group docs
	@touch $@
