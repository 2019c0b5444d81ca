# Two commands do everything: `make serve` and `make test`.
PYTHON ?= python3
PORT ?= 5006
WORKERS ?= 2
DEEPFEATURES_HOME ?= $(CURDIR)/workspace
# TORCH=cuda takes the build that brings CUDA along; the default is the smaller CPU build.
TORCH ?= cpu
TORCH_VERSION = 2.13.0
TORCH_INDEX_cpu = https://download.pytorch.org/whl/cpu
export DEEPFEATURES_HOME PORT

BIN = .venv/bin
READY = .venv/.ready-$(TORCH)
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: serve env demo test test-long lint types bench bench-cubes bench-tiles soak checkpoints table screenshots clean

serve: env
	$(BIN)/python -m deepfeatures demo
	$(BIN)/python -m deepfeatures serve --port $(PORT)

env: $(READY)

# A wheel of torch that pip already knows of (PIP_FIND_LINKS) is taken first. To pip one build is as
# good as the other, so when the choice changes the old one has to go first.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	if ls .venv/.ready-* 2>/dev/null | grep -qv 'ready-$(TORCH)$$'; then \
	  $(BIN)/python -m pip uninstall --yes --quiet torch; fi
ifeq ($(TORCH),cpu)
	$(PIP) --no-deps --no-index torch==$(TORCH_VERSION) 2>/dev/null \
	  || $(PIP) --no-deps --index-url $(TORCH_INDEX_cpu) torch==$(TORCH_VERSION)
else
	$(PIP) torch==$(TORCH_VERSION)
endif
	$(PIP) --requirement requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	rm -f .venv/.ready-*
	touch $@

demo: env
	$(BIN)/python -m deepfeatures demo

# One worker per core of CI. In each, the libraries that start threads of their own keep to one; they
# ask when they are loaded, which is before any file of ours. One that runs out of tests takes over
# some of the other's.
test: env lint types
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-long: env
	$(BIN)/python -m pytest -m long

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

DATA ?= ../shared/data
bench: env
	$(BIN)/python benchmarks/indices.py $(if $(wildcard $(DATA)),--data $(DATA))
	$(BIN)/python benchmarks/embed.py
	$(BIN)/python benchmarks/page.py
	$(BIN)/python benchmarks/serve.py

# Making cubes, on the real data in the folder DATA, beside the peers of benchmarks/peers.txt.
bench-cubes: env
	$(PIP) --no-deps --requirement benchmarks/peers.txt
	$(BIN)/python benchmarks/nbar.py --data $(DATA)
	$(BIN)/python benchmarks/clouds.py --data $(DATA)
	$(BIN)/python benchmarks/extremes.py
	$(BIN)/python benchmarks/build.py --data $(DATA)

# Map tiles beside the peers of benchmarks/peers-tiles.txt, which have an environment of their own.
bench-tiles: env
	test -x .peers/bin/uvicorn || ($(PYTHON) -m venv .peers \
	  && .peers/bin/python -m pip install --quiet --requirement benchmarks/peers-tiles.txt)
	$(BIN)/python benchmarks/tiles.py --peers .peers/bin/python

# Many visitors for ten minutes, then pages opened and closed; on this machine only.
soak: env
	$(BIN)/python benchmarks/soak.py --sessions 50 --minutes 10 --pages 500

# Trains the checkpoints that ship.
checkpoints: env
	$(BIN)/python benchmarks/checkpoints.py --data $(DATA) --ship

# Writes the table of spectral indices from the installed spyndex, with ranges from the data.
table: env
	$(BIN)/python benchmarks/index_table.py --data $(DATA)

# Makes the pictures of the README from the browser test.
screenshots: env
	DEEPFEATURES_SCREENSHOTS=output/screenshots $(BIN)/python -m pytest -m browser

clean:
	rm -rf .venv .peers .pytest_cache .mypy_cache .ruff_cache .hypothesis
