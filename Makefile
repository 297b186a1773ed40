# `make demo` and `make test` set up everything they need: .venv in this checkout, the Rust kernels
# and the `lumina` binary. A second run rebuilds only what changed.

PYTHON ?= python3
JAX ?= newest

# Wherever the user's own configuration puts build products, here they go to ./target.
export CARGO_TARGET_DIR := $(CURDIR)/target
export PYO3_PYTHON := $(CURDIR)/.venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONHOME PYTHONPATH

VENV_PYTHON := .venv/bin/python
RUST := Cargo.toml Cargo.lock $(shell find ffi_rs runtime/src runtime/capi runtime/Cargo.toml -name '*.rs' -o -name Cargo.toml)
# An editable install points to the checkout, so one that has moved is installed again; so is one of
# another profile. Tests and lint take the profile of the Rust tests, dev: checked as a debug build
# is, and compiled in a fraction of the time of release.
STAMP := .venv/ready-$(shell pwd | cksum | tr ' ' -)
LUMINA := $(CURDIR)/target/debug/lumina

GENERATED := exporter/_lmn_pb2.py exporter/_lmn_pb2.pyi runtime/tests/it/proto.rs \
  runtime/capi/include/lumina.h docs/lmn.md docs/primitives.md
define GENERATE
$(VENV_PYTHON) exporter/_generate.py
cargo run --quiet --locked --manifest-path runtime/proto-gen/Cargo.toml
cargo run --quiet --locked --manifest-path runtime/header-gen/Cargo.toml
$(VENV_PYTHON) tools/op_table.py
$(VENV_PYTHON) tools/primitive_table.py
endef

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.SUFFIXES:

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1|/p' Makefile | awk -F'|' '{printf "%-16s %s\n", $$1, $$2}'

.PHONY: demo
demo: $(STAMP)-release-examples runtime ## train on real digits, export, run in pure Rust; see build/demo
	$(VENV_PYTHON) examples/digits_nat.py

# The C library, its header, and what pkg-config and CMake ask for.
PREFIX ?= build/prefix

.PHONY: install
install: ## the C library under PREFIX=/usr/local; build/prefix where none is named
	cargo build --release --locked -p lumina-capi
	sh tools/install.sh $(abspath $(PREFIX))

.PHONY: embed
embed: $(STAMP)-release-examples install ## models in programs of C and C++, by cc, c++ and CMake
	@test -f build/demo/model.lmn || $(MAKE) demo
	$(VENV_PYTHON) examples/embed/images.py build/demo
	@command -v cmake >/dev/null || $(VENV_PYTHON) -m pip install --quiet 'cmake>=3.26,<5'
	@PATH="$(CURDIR)/.venv/bin:$$PATH" \
	  sh tools/embed.sh $(abspath $(PREFIX)) build/demo/model.lmn build/demo/images.f32 build/demo/labels.u8

# Each writes its files into build/examples, or a folder of it.
EXAMPLES := convert_flax_model cnn_digits gpt_nat complex_mlp sklearn_on_a_chip chip_to_file

.PHONY: examples
examples: $(STAMP)-release-examples runtime ## train models on noisy chips, ten minutes in all; see build/examples
	@for name in $(EXAMPLES); do \
	  echo "==> examples/$$name.py"; \
	  $(VENV_PYTHON) examples/$$name.py --out build/examples/$$name || exit 1; \
	done

.PHONY: bench
bench: $(STAMP)-release-benchmarks runtime ## speed and memory beside JAX, PyTorch and others; see docs/performance.md
	mkdir -p build
	$(VENV_PYTHON) -m benchmarks --json build/benchmarks.json --plot build/roofline.png

# Each cargo command names the whole workspace: the features of the crates, and with them what is
# built, are then always the same.
.PHONY: test
test: $(STAMP)-dev-test lumina lumina-python ## all Rust and Python tests
	@echo '==> Rust tests'
	@if cargo nextest --version >/dev/null 2>&1; then \
	  cargo nextest run --workspace --locked --no-fail-fast; \
	else \
	  cargo test --workspace --locked --no-fail-fast --lib --bins --tests; \
	fi
	cargo test --workspace --locked --doc
	@echo '==> Kernel tests on lesser CPUs'
	@for isa in $$(sh tools/isas.sh); do \
	  echo "LUMINA_MAX_SIMD=$$isa"; \
	  LUMINA_MAX_SIMD=$$isa cargo test --quiet --workspace --locked \
	    --lib --test simd -- $(PORTABLE:%=--skip %::) || exit 1; \
	done
	@echo '==> Python tests'
	LUMINA_BIN=$(LUMINA) \
	  $(VENV_PYTHON) -m pytest -n auto --maxprocesses 4 --dist worksteal

# Modules whose code is the same for every instruction set.
PORTABLE := disjoint dtype layout machine par scratch tensor xla

.PHONY: test-jax
test-jax: $(STAMP)-dev-test lumina ## the Python tests on another jax: JAX=0.8.0 PYTHON=python3.11 ARGS=-x
	@LUMINA_BIN=$(LUMINA) $(PYTHON) tools/test_jax.py $(JAX) $(ARGS)

.PHONY: smoke
smoke: $(STAMP)-dev-test lumina ## a few Python tests on the oldest jax and on the newest
	@LUMINA_BIN=$(LUMINA) $(PYTHON) tools/test_jax.py smoke

.PHONY: report-test
report-test: $(STAMP)-dev-browser lumina ## the pages of `lumina report` in headless Chromium, with its driver
	LUMINA_BIN=$(LUMINA) $(VENV_PYTHON) -m pytest tests/test_report_page.py

.PHONY: zoo
zoo: $(STAMP)-dev-test lumina ## export models of other packages and compare them with JAX: ARGS=BERT
	@$(PYTHON) tools/test_jax.py zoo --table docs/zoo.md $(ARGS)

.PHONY: neon
neon: requirements ## the Rust tests as AArch64 programs, where QEMU can be had
	@echo '==> Rust tests on AArch64'
	@sh tools/neon.sh

# Mutants, and the seed of the first of them.
N ?= 1000000
SEED ?= 0

.PHONY: attack
attack: requirements ## a million wrong .lmn files, and as many wrong calls of operators, or N=...
	cargo test --release --locked -p lumina-runtime --test attack -- $(N) $(SEED)
	LUMINA_CALLS=$(N) LUMINA_SEED=$(SEED) \
	  cargo test --release --locked -p lumina-capi --test operators random_calls

# A checkout of data-apis/array-api-tests with its submodule, devices, and the version of the standard.
SUITE ?=
DEVICE ?= ideal
API ?= 2024.12

.PHONY: array-api
array-api: $(STAMP)-dev-test ## the standard's own suite of SUITE=checkout, on DEVICE='ideal noisy'
	@$(VENV_PYTHON) tools/array_api_tests.py $(or $(SUITE),$(error SUITE=... is missing)) \
	  --device $(DEVICE) --api $(API)

.PHONY: lint
lint: $(STAMP)-dev-lint ## formatting, lints, types, freshness of generated files
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m pyright
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
	$(GENERATE)
	git diff --exit-code -- $(GENERATED)

.PHONY: generate
generate: $(STAMP)-dev-lint ## the code made from runtime/proto/lmn.proto, lumina.h, and the tables of ops
	$(GENERATE)

.PHONY: fmt
fmt: $(STAMP)-dev-lint ## format Python and Rust
	$(VENV_PYTHON) -m ruff check --fix --exit-zero .
	$(VENV_PYTHON) -m ruff format .
	cargo fmt --all

.PHONY: dist
dist: $(STAMP)-release-examples ## sdist and wheel in dist/
	$(VENV_PYTHON) -m maturin build --release --sdist --out dist

.PHONY: dist-python
dist-python: requirements ## sdist of lumina_runtime in dist/, and the wheel that is built of it
	@$(VENV_PYTHON) -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(VENV_PYTHON) -m pip install --quiet 'build>=1.2,<2'
	$(VENV_PYTHON) -m build --outdir dist ./runtime/python

.PHONY: clean
clean: ## remove everything that make made
	rm -rf .venv build dist target .pytest_cache .ruff_cache .hypothesis
	rm -f lumina_jax/_lumina*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: build
build: $(STAMP)-release-examples runtime ## the Python package in .venv and target/release/lumina

.PHONY: runtime
runtime: requirements
	@echo '==> Building the lumina binary'
	cargo build --release --locked -p lumina-runtime

# The binary that the tests run.
.PHONY: lumina
lumina: requirements
	@cargo build --workspace --locked --bin lumina

# The package lumina_runtime, whose tests are skipped without it. What builds it is in the extra test.
.PHONY: lumina-python
lumina-python: $(STAMP)-dev-test
	@if command -v c++ >/dev/null && $(VENV_PYTHON) -c "$(HAS_HEADERS)"; then \
	  echo '==> Building lumina_runtime'; \
	  $(VENV_PYTHON) -m pip install --quiet --no-build-isolation --no-deps --force-reinstall \
	    --config-settings=cmake.define.CMAKE_COMPILE_WARNING_AS_ERROR=ON \
	    --config-settings=cmake.define.LUMINA_PROFILE=dev \
	    --config-settings='cmake.define.LUMINA_SELECTION=--workspace;--lib' ./runtime/python; \
	else \
	  echo 'Without a C++ compiler, `c++`, and the headers of Python, the tests of lumina_runtime are skipped.'; \
	fi

HAS_HEADERS := import pathlib, sys, sysconfig; \
  sys.exit(not pathlib.Path(sysconfig.get_path('include'), 'Python.h').exists())

# What each extra installs besides itself.
lint_HAS := test benchmarks examples
test_HAS := benchmarks examples
browser_HAS := test benchmarks examples

# The stem is the profile and the extra. maturin comes from .venv instead of an isolated
# environment: a rebuild needs no network.
$(STAMP)-%: profile = $(word 1,$(subst -, ,$*))
$(STAMP)-%: extra = $(word 2,$(subst -, ,$*))
$(STAMP)-%: pyproject.toml $(RUST) | requirements
	@$(VENV_PYTHON) -c '' 2>/dev/null || { echo '==> Creating .venv'; $(PYTHON) -m venv --clear .venv; }
	@echo '==> Installing the Python packages and building the kernels (minutes the first time)'
	$(VENV_PYTHON) -m pip install 'maturin>=1.10,<2'
	MATURIN_PEP517_ARGS='--profile $(profile)' \
	  $(VENV_PYTHON) -m pip install --no-build-isolation -e '.[$(extra)]'
	@rm -f .venv/ready-*
	@touch $(foreach name,$(extra) $($(extra)_HAS),$(STAMP)-$(profile)-$(name))

.PHONY: requirements
requirements:
	@: $(if $(MISSING),$(error $(MISSING)))

MISSING = $(shell PYTHON='$(PYTHON)' sh tools/missing.sh)
