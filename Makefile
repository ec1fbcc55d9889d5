# make export   set up and run the main job on the embedded sample
# make test     set up and pass every check
# make android  build and test android_demo on this machine, with a JDK and Maven

PYTHON := $(shell for p in python3.11 python3 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; \
	then command -v $$p; break; fi; done)
BIN := .venv/bin
READY := .venv/.ready
COMPILE := $(BIN)/uv pip compile pyproject.toml --extra oldest --extra dev --quiet \
	--python-version 3.11 --python-platform linux --only-binary :all: --no-python-downloads \
	--no-annotate --custom-compile-command "make constraints"

.PHONY: export test android lint setup constraints clean

export: setup
	$(BIN)/mobileclf export --int8

test: lint
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Apart from `test`: it downloads some 500 MB of Android's own classes once.
android: setup
	ANDROID=1 $(BIN)/python -m pytest tests/test_android_kotlin.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

setup: $(READY)

$(READY): pyproject.toml mobileclf/constraints-3.11.txt
	@test -n "$(PYTHON)" || { echo "error: wanted Python 3.11 as python3.11 or python3, found none;" \
		"install it and run make again" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint mobileclf/constraints-3.11.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint mobileclf/constraints-3.11.txt \
		--editable '.[oldest,dev]'
	touch $@

# Exact versions for Python 3.11, from the ranges in pyproject.toml. `UPGRADE=--upgrade` moves
# them to the newest that fit; without it the versions that are there are kept.
constraints: .venv/bin/uv
	$(COMPILE) $(UPGRADE) --output-file mobileclf/constraints-3.11.txt

.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find mobileclf tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
