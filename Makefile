# Two commands for a machine with Python 3.11 and make: `make reproduce` and `make test`.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3.11
CORES ?= 2
PORT ?= 5000
BIN := .venv/bin
STAMP := .venv/.pins-$(shell cksum < envs/requirements.txt | cut -d' ' -f1)
# What Snakemake says between two of our own lines.
CHATTER := ^(Select jobs|Execute [0-9]+ jobs|Finished jobid|\[[A-Z][a-z]{2} |Provided cores|Rules claiming|Using shell|Conda env|Assuming|Config file|$$)
TARGETS := results/table4.csv results/table4.md results/figure2.pdf results/figure5.pdf
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: help reproduce test faults lint format mlflow official pins clean-results

help:
	@echo "make reproduce   set up .venv, then Table 4, Figure 2 and Figure 5 at the mnist scale"
	@echo "make test        set up .venv, then linters and tests"
	@echo "make faults      do every fault of docs/reliability.md again and write the page"
	@echo "make mlflow      browse the runs on http://127.0.0.1:$(PORT)"
	@echo "make lint        ruff, snakefmt, snakemake --lint, mypy"
	@echo "make format      ruff and snakefmt, in place"
	@echo "make official    set up .venv-official, TensorFlow for the rule evaluate_official"
	@echo "make pins        resolve envs/requirements.txt and envs/official.txt anew"
	@echo "make clean-results   remove the results of the scales that are trained here, and the tracking store"

# uv installs the pinned set in seconds; it is itself installed by pip, so Python is enough to begin with. Compiling the
# bytecode once halves the start of every job, also where PYTHONDONTWRITEBYTECODE is set.
$(STAMP): envs/requirements.txt pyproject.toml
	@echo "setting up .venv: about 200 packages, 7 GB, 1-3 minutes"
	@command -v $(PYTHON) > /dev/null || { echo "error: no $(PYTHON); install Python 3.11 or say make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c "import sys; sys.exit(sys.version_info[:2] != (3, 11))" \
		|| { echo "error: .venv is not Python 3.11; remove it and say make PYTHON=python3.11"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	@$(BIN)/uv pip install --quiet --no-deps --compile-bytecode --python $(BIN)/python -r envs/requirements.txt
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -e .
	@rm -f .venv/.pins-*
	@touch $@

reproduce: $(STAMP)
	@echo "reproduce: $(TARGETS)"
	@echo "mnist scale, $(CORES) cores, about 4 minutes the first time, seconds when nothing changed; stop and start at will"
	@$(BIN)/snakemake --cores $(CORES) --rerun-incomplete --quiet rules host --config scale=mnist -- $(TARGETS) 2>&1 \
		| grep --line-buffered -vE '$(CHATTER)'
	@cat results/table4.md

# Two halves side by side, about as long: the second, and the miniature world at the end of the first, mostly wait for Snakemake's own jobs.
WORLD := tests/end_to_end/test_imagenet_world.py
test: $(STAMP) lint
	@bash tests/system-packages.sh
	@echo "tests: about 13 minutes on 2 cores"
	@$(BIN)/python -m pytest tests/unit tests/parity tests/browser $(WORLD) & first=$$!; second=0; \
		$(BIN)/python -m pytest -m "not faults" --ignore $(WORLD) tests/workflow tests/end_to_end tests/faults || second=$$?; \
		wait $$first && exit $$second

# Every fault in docs/reliability.md, and the page itself. FAULTS=tests/faults/test_slurm_faults.py does a part and keeps the others' rows.
FAULTS ?= tests/faults
faults: $(STAMP)
	@bash tests/system-packages.sh
	@echo "faults: about 55 minutes on 2 cores, ten of them of waiting for a tracking server that is away"
	@$(BIN)/python -m pytest $(FAULTS) --faults-json results/.faults.json
	@$(BIN)/python tests/faults/table.py results/.faults.json docs/reliability.md

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check --compact-diff Snakefile workflow
	@$(BIN)/snakemake --lint > /dev/null
	@$(BIN)/mypy

format: $(STAMP)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/snakefmt Snakefile workflow

mlflow: $(STAMP)
	@echo "http://127.0.0.1:$(PORT)   Table 4: tags.table4 IS NOT NULL"
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow ui --host 127.0.0.1 --port $(PORT) --workers 1 \
		--backend-store-uri sqlite:///results/mlflow.db

# An environment of its own, without torch; ARTUNE_OFFICIAL_PYTHON names another's interpreter.
official:
	@test -x .venv-official/bin/python || $(PYTHON) -m venv .venv-official
	@.venv-official/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/official.txt
	@.venv-official/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@echo "set up .venv-official; now e.g. snakemake -c2 --config scale=imagenet -- results/imagenet/runs/llamagen_l-ours/official.json"

pins: $(STAMP)
	@$(BIN)/uv pip compile --quiet --python $(BIN)/python --no-header --no-annotate \
		--override envs/overrides.txt envs/requirements.in -o envs/requirements.txt
	@$(BIN)/uv pip compile --quiet --python $(BIN)/python --no-header --no-annotate envs/official.in -o envs/official.txt

clean-results:
	@rm -rf results/mnist results/smoke results/mlflow results/mlflow.db results/.mlflow_store.json \
		results/*.csv results/*.md results/*.tex results/*.pdf results/*.png
