# Six words do everything; `make help` lists them. Each sets up what it needs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
LOCK   := requirements/lock.txt
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q
NODE   := build/node

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench interop interop-oauth lock proto clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(VENV)/.ready ## make .venv with the locked dependencies (the other targets do this themselves)

$(VENV)/.ready: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("AgentShield needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@echo "setting up $(VENV) (once, about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --require-hashes --only-binary :all: -r $(LOCK)
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## two agents prove who they are, on this machine
	@$(BIN)/agentshield demo

test: setup ## the whole suite
	@$(BIN)/python -m pytest -n auto tests --ignore tests/interop

check: setup ## lint, types, layers, dependencies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/deptry .

bench: setup $(NODE)/.ready ## ratios against the limit and against peers, in one run
	@$(BIN)/python -m bench

interop: setup ## stock spire-agent and go-spiffe against our authority (needs Go)
	@$(BIN)/python -m pytest tests/interop -rs

interop-oauth: setup $(NODE)/.ready ## stock OAuth and A2A clients, and a stock OpenID provider, against ours (needs npm)
	@$(BIN)/python -m pytest -rs tests/interop/test_authlib_client.py tests/interop/test_openid_client.py \
		tests/interop/test_foreign_oidc_provider.py tests/interop/test_delegated_sign_in_end_to_end.py \
		tests/interop/test_schemathesis.py tests/interop/test_a2a_js_client.py

# Node.js itself is one of the packages. Where npm is not to be had, the tests that need it skip and say so.
$(NODE)/.ready: $(wildcard tests/interop/node/*)
	@mkdir -p $(NODE) && cp $^ $(NODE)
	@npm ci --prefix $(NODE) --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@ \
		|| echo "the packages of tests/interop/node cannot be installed here"

lock: ## renew requirements/lock.txt
	@test -x $(BIN)/uv || $(PIP) install uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-emit-find-links --no-header --no-annotate --all-extras --group check --group test \
		--no-emit-package agentshield-identity pyproject.toml requirements/build.in -o $(LOCK)

proto: setup ## regenerate sdk/wire/*_pb2 from our .proto files
	@$(BIN)/python requirements/generate_proto.py

clean: ## remove what the targets made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis
