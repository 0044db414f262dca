# Everything a user or developer does here; `make` or `make help` lists it.
PYTHON ?= python3
ARGS ?=
PAPER ?= $(sort $(basename $(notdir $(wildcard conf/experiment/*.yaml))))
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup run paper report test bench lint format clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## */\1\t/' | expand -t 10

setup: $(READY) ## make .venv with everything in it

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

run: $(READY) ## train and record a run: make run ARGS="kernel=gaussian dataset=fmnist"
	$(BIN)/python -m kernelexp $(ARGS)

# A sweep with a job that fails does not keep the others from running; make fails at the end.
paper: $(READY) ## run all presets at the papers' sizes, going on where it was stopped; make paper dry_run=true lists them
	@failed=; for preset in $(PAPER); do \
	  echo "experiment=$$preset scale=paper"; \
	  $(BIN)/python -m kernelexp experiment=$$preset scale=paper $(if $(dry_run),dry_run=$(dry_run)) $(ARGS) || failed="$$failed $$preset"; \
	done; test -z "$$failed" || { echo "make paper: failed:$$failed" >&2; exit 1; }

report: $(READY) ## write reports/ from the tracking store: make report ARGS="rkhs_norm --format svg"
	$(BIN)/python -m kernelexp.report $(ARGS)

test: $(READY) ## run the tests, a process for each core: make test ARGS="-k kernels"
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

bench: $(READY) ## measure what the docs quote, into benchmarks/results (needs KERNELEXP_DATA)
	$(BIN)/python benchmarks/kernel_block.py
	$(BIN)/python benchmarks/precision.py
	$(BIN)/python benchmarks/eigenpro2.py
	$(BIN)/python benchmarks/floor.py
	$(BIN)/python benchmarks/narrow.py
	$(BIN)/python benchmarks/exact.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/batch.py
	$(BIN)/python benchmarks/variance_reduction.py
	$(BIN)/python benchmarks/centers.py
	$(BIN)/python benchmarks/checkpoint.py
	$(BIN)/python benchmarks/subsample.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/claims.py
	$(BIN)/python benchmarks/report_many.py
	$(BIN)/python benchmarks/ridge_path.py
	$(BIN)/python benchmarks/search.py
	$(BIN)/python benchmarks/tables.py
	$(BIN)/python benchmarks/learned_kernels.py
	$(BIN)/python benchmarks/forecast.py
	$(BIN)/python benchmarks/batch_law.py
	$(BIN)/python benchmarks/one_gpu.py
	$(BIN)/python benchmarks/noise_levels.py laplacian overfitted 60000
	$(BIN)/python benchmarks/noise_levels.py gaussian interpolated 60000
	$(BIN)/python benchmarks/paper_values.py
	$(BIN)/python benchmarks/ranks.py

lint: $(READY) ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(READY) ## rewrite the code in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv and caches, no results
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist
