# Everything runs in a virtual environment of its own, made on first use.
# `make demo`, `make test`, `make check`, `make bench`; PYTHON=python3.12 chooses the interpreter.

PYTHON ?= python3
DATA ?= ../shared/data
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test check bench clean

demo: $(READY)
	$(BIN)/fluxshard demo --out demo

test: check
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy flow_cache shards pipeline trainer fluxshard benchmarks examples tests

bench: $(READY)
	@for script in $$(grep -l '"--data"' benchmarks/*.py); do echo; echo "== $$script"; $(BIN)/python $$script --data $(DATA) || exit 1; done

clean:
	rm -rf .venv demo

# constraints.txt pins torch first of all: an open range may fetch gigabytes of another build.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "fluxshard needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch -e '.[dev]'
	touch $@
