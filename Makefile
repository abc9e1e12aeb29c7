# The few words of this project. `make` alone lists them.
BIN := .venv/bin
ARGS ?=
ROUNDS ?= 20
WHAT ?= spawn
BASE ?=
LOCK := .venv-lock/bin/uv pip compile --quiet --universal --no-annotate --generate-hashes --no-emit-index-url \
        --no-emit-find-links --custom-compile-command "make lock" --python-version 3.11

.DEFAULT_GOAL := help
.PHONY: help run test unit check format bench soak fault-long docs images reference screenshots translations lock

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run:  ## install what is needed and start the hub in this terminal (ARGS="--port 9000")
	@tests/tools/prepare run
	@exec $(BIN)/himalia up $(ARGS)

test:  ## everything that CI runs: parts by two workers, then whole systems in turn; installs what a bare machine lacks
	@tests/tools/prepare test
	@$(MAKE) --no-print-directory check
	@tests/tools/suite --durations=15 $(ARGS)

unit:  ## the tests without sockets, in under a minute
	@tests/tools/prepare dev
	$(BIN)/pytest tests/unit -q $(ARGS)

check:  ## format, lint, types, imports
	@tests/tools/prepare dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format:  ## let ruff write what check would complain of
	@tests/tools/prepare dev
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

bench:  ## ours beside the official: starts and memory, or WHAT=hub, admin, proxy, singleuser, burst, roundtrip, container, links; ours alone: WHAT=scale, 1,000 to 10,000 servers, WHAT=postgres, and WHAT=logins, 200 at once
	@tests/tools/prepare test
	$(BIN)/python tests/bench/$(WHAT).py $(ARGS)

soak:  ## 200 idle servers held for ten minutes (ARGS="--users 200 --minutes 10 --kernels 20"); or WHAT=proxy
	@tests/tools/prepare test
	$(BIN)/python tests/bench/$(if $(filter proxy,$(WHAT)),proxy_soak,soak).py $(ARGS)

fault-long:  ## the fault tests again and again, with long faults (ROUNDS=20)
	@tests/tools/prepare test
	for round in $$(seq $(ROUNDS)); do FAULT_LONG=1 $(BIN)/pytest tests/fault tests/fault/storm.py tests/unit/hub/test_lifecycle_machine.py -q -p no:cacheprovider $(ARGS) || exit 1; done

docs:  ## the documentation as pages, in site/
	@tests/tools/prepare docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

images:  ## the images of deploy/Dockerfile (BASE=image:tag; without one, a base of Debian's packages, no registry)
	@deploy/build-images "$(BASE)"

reference:  ## write docs/reference from the code
	@tests/tools/prepare dev
	@tests/tools/reference

translations:  ## bring the catalogues of messages to what code and templates say, and compile them
	@tests/tools/prepare dev
	$(BIN)/python tests/tools/translations

screenshots:  ## a picture of every page, light and dark, at three widths, into docs/screenshots
	@tests/tools/prepare test
	@$(BIN)/python tests/tools/screenshots | grep -v request.done

lock:  ## choose the newest allowed versions again
	@test -x .venv-lock/bin/uv || { python3 -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv; }
	$(LOCK) --upgrade pyproject.toml --extra postgres --extra docker --extra oidc --extra pam -o requirements.lock
	$(LOCK) --upgrade pyproject.toml --all-extras --group dev -o requirements-dev.lock
	$(LOCK) --upgrade --group pyproject.toml:docs -o docs/requirements.lock
	$(LOCK) --upgrade tests/official/requirements.in -o tests/official/requirements.lock
	for part in build proxy hub singleuser kernel; do \
	  $(LOCK) deploy/requirements/$$part.in -c requirements.lock -o deploy/requirements/$$part.lock || exit 1; done
	cd tests/official && npm install --package-lock-only --omit-lockfile-registry-resolved --silent --no-audit --no-fund
