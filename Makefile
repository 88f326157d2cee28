# The two main commands are `make reproduce` and `make test`. The machine needs only Python 3.11, 3.12 or 3.13 and make.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
# The newest Python that runs and can make environments; envs/ pins the same packages for all three. Empty: there is none.
PYTHONS := python3.13 python3.12 python3.11
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for name in $(PYTHONS); do $$name -c "import ensurepip, venv" 2> /dev/null && echo $$name && break; done)
endif
CORES ?= 2
SCALE ?= mnist
PORT ?= 5000
comma := ,
NO_PYTHON = error: $(if $(PYTHON),$(PYTHON) not found,no Python 3.11$(comma) 3.12 or 3.13 that can make environments found); get one, for example by \
	uv python install 3.13 (https://docs.astral.sh/uv), or run make PYTHON=/path/to/python3.13
BIN := .venv/bin
# The CUDA of torch's build. 13 needs an NVIDIA driver of 580 or later; `make CUDA=12 reproduce` (or test, or any other target)
# makes .venv with a build for drivers from 525 on, and .venv then stays of that kind. A variable of the environment is ignored.
ifneq ($(origin CUDA),command line)
CUDA := $(if $(wildcard .venv/lib/python3.*/site-packages/nvidia_cudnn_cu12-*),12,13)
endif
ifeq ($(filter 12 13,$(CUDA)),)
$(error CUDA=$(CUDA): give 13 (driver 580 or later) or 12 (driver 525 or later))
endif
OTHER_CUDA := $(if $(filter 12,$(CUDA)),13,12)
PINS := envs/requirements$(if $(filter 12,$(CUDA)),-cuda12).txt
STAMP := .venv/.pins-$(shell cat envs/build.txt $(PINS) | cksum | cut -d' ' -f1)
# Only files whose digests are pinned are installed, and what must be built is built by the pinned setuptools.
PINNED := --require-hashes --no-deps --no-build-isolation
# Lines of Snakemake's output that `make reproduce` hides.
CHATTER := ^(Select jobs|Execute [0-9]+ jobs|Finished jobid|\[[A-Z][a-z]{2} |Provided cores|Rules claiming|Using shell|Conda env|Assuming|Config file|$$)
EMBEDDED := $(filter-out imagenet,$(basename $(notdir $(wildcard config/scales/*.yaml))))
TARGETS := results/table4.csv results/table4.md results/figure2.pdf results/figure5.pdf
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: help reproduce test faults lint format mlflow official pins pins-of-each gpu-wheels clean-results

help:
	@echo "make reproduce   set up .venv, then Table 4, Figure 2 and Figure 5 at the scale SCALE (default: mnist)"
	@echo "make test        set up .venv, then linters and tests"
	@echo "make faults      repeat every fault of docs/reliability.md and rewrite that page"
	@echo "make mlflow      open the runs of Table 4 on MLflow's pages, http://127.0.0.1:$(PORT) (another port: make PORT=5001 mlflow)"
	@echo "make lint        check with ruff, snakefmt, snakemake --lint and mypy"
	@echo "make format      format all files with ruff and snakefmt"
	@echo "make official    set up .venv-official with TensorFlow, for the rule evaluate_official"
	@echo "make gpu-wheels  wheels for benchmarks/gpu_suite.sh on a machine that has torch alone; PYTHON=3.12 is that machine's version"
	@echo "make CUDA=12 ... any of these with a torch for NVIDIA drivers from 525 to 579; without it the driver must be 580 or later"
	@echo "make pins        resolve the pins and digests in envs/*.txt again; then make pins-of-each asks whether they serve"
	@echo "                 Python 3.11, 3.12 and 3.13 alike"
	@echo "make clean-results   remove the results of all scales but imagenet (both presets), the published copies and the tracking store"

# uv installs the pinned packages in seconds; pip installs uv, so Python alone is enough at the start. Compiling the bytecode
# here halves the start-up time of every job, even where PYTHONDONTWRITEBYTECODE is set.
$(STAMP): envs/build.txt $(PINS) pyproject.toml
	@if compgen -G ".venv/lib/python3.*/site-packages/nvidia_cudnn_cu$(OTHER_CUDA)-*" > /dev/null; then \
		echo "removing .venv, whose torch was built with CUDA $(OTHER_CUDA)"; rm -rf .venv; fi
	@echo "setting up .venv for CUDA $(CUDA): about 200 packages, 7 GB, 1-3 minutes"
	@test -x $(BIN)/python || command -v "$(PYTHON)" > /dev/null || { echo "$(NO_PYTHON)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" \
		|| { echo "error: .venv is not Python 3.11, 3.12 or 3.13; remove it and run make again"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/build.txt
	@$(BIN)/uv pip install --quiet $(PINNED) --compile-bytecode --python $(BIN)/python -r $(PINS)
	@$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	@$(BIN)/python -m compileall -q src
	@rm -f .venv/.pins-*
	@touch $@

reproduce: $(STAMP)
	@echo "reproduce: $(TARGETS)"
	@echo "$(SCALE) scale on $(CORES) cores: minutes the first time (about 4 at mnist), seconds if nothing changed; to resume after a stop, run it again"
	@$(BIN)/snakemake --cores $(CORES) --rerun-incomplete --quiet rules host --config scale=$(SCALE) -- $(TARGETS) 2>&1 \
		| grep --line-buffered -vE '$(CHATTER)'
	@$(BIN)/python -m artune report --results results --output results/report.html --scale $(SCALE)
	@cat results/table4.md
	@echo
	@$(BIN)/python -m artune expected table4 --scale $(SCALE)

# Three calls of pytest run side by side, because each of them waits now and then; a fourth makes two cores slower. The third has
# the tests that need the finished pipeline of the fixture `smoke`; all three end at about the same time.
SECOND := tests/end_to_end/test_imagenet_world.py tests/workflow tests/browser tests/parity $(addprefix tests/unit/,planning results)
THIRD := tests/end_to_end tests/faults $(addprefix tests/unit/,tracking tuning)
test: $(STAMP) lint
	@bash tests/system-packages.sh
	@echo "tests: about 17 minutes on 2 cores, up to 28 on a slower processor"
	@$(BIN)/python -m pytest tests/unit $(patsubst %,--ignore=%,$(filter tests/unit/%,$(SECOND) $(THIRD))) & first=$$!; \
		$(BIN)/python -m pytest $(SECOND) & second=$$!; third=0; \
		$(BIN)/python -m pytest -m "not faults" --ignore $(firstword $(SECOND)) $(THIRD) || third=$$?; \
		wait $$first || third=$$?; wait $$second || third=$$?; exit $$third

# Repeats every fault of docs/reliability.md and rewrites the page. FAULTS=tests/faults/test_slurm_faults.py repeats only the faults
# of that file and keeps the other rows of the page. The two calls of pytest take about equally long; those of the first mostly wait.
FAULTS ?= tests/faults
WAITING := $(patsubst %,tests/faults/test_%.py,slurm_faults slurm_waits snakemake moved settings_faults)
ROWS := results/.faults-1.json results/.faults-2.json
faults: $(STAMP)
	@bash tests/system-packages.sh
	@echo "faults: about an hour on 2 cores, ten minutes of which are spent waiting while a tracking server is down"
	@failed=0; mkdir -p results; \
	if [ "$(FAULTS)" = tests/faults ]; then \
		rm -f $(ROWS); \
		$(BIN)/python -m pytest $(WAITING) --faults-json $(word 1,$(ROWS)) & first=$$!; \
		$(BIN)/python -m pytest tests/faults $(WAITING:%=--ignore=%) --ignore tests/faults/test_page.py \
			--faults-json $(word 2,$(ROWS)) || failed=1; \
		wait $$first || failed=1; \
	else \
		$(BIN)/python -m pytest $(FAULTS) --faults-json $(word 2,$(ROWS)) || failed=1; \
	fi; \
	$(BIN)/python tests/faults/table.py $(ROWS) docs/reliability.md; \
	exit $$failed

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
	@$(BIN)/python -m artune browse --port $(PORT) --scale $(SCALE)

# A separate environment without torch. ARTUNE_OFFICIAL_PYTHON can name the Python of another environment instead.
official:
	@test -x .venv-official/bin/python || command -v "$(PYTHON)" > /dev/null || { echo "$(NO_PYTHON)"; exit 1; }
	@test -x .venv-official/bin/python || $(PYTHON) -m venv .venv-official
	@.venv-official/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r envs/build.txt
	@.venv-official/bin/python -m pip install --quiet --disable-pip-version-check $(PINNED) -r envs/official.txt
	@.venv-official/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@echo "set up .venv-official; next run, for example, snakemake -c2 --config scale=imagenet -- results/imagenet/runs/llamagen_l-ours/official.json"

# The first line of each file says how it is installed: without --no-deps a resolver refuses hpsv2's old pins. The pins are
# resolved for Python 3.11; pins-of-each then asks whether the same ones are a solution for every later version.
COMPILE := $(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate
FOR = --python-version $(1)
COMPILE_build = $(COMPILE) envs/build.in
COMPILE_requirements = $(COMPILE) --override envs/overrides.txt envs/requirements.in
COMPILE_requirements-cuda12 = $(COMPILE) --override envs/overrides.txt --override envs/overrides-cuda12.txt envs/requirements.in
COMPILE_official = $(COMPILE) envs/official.in
pins: $(STAMP)
	@$(COMPILE_build) $(call FOR,3.11) -o envs/build.txt
	@$(COMPILE_requirements) $(call FOR,3.11) -o envs/requirements.txt
	@cp envs/requirements.txt envs/requirements-cuda12.txt  # uv keeps these versions wherever the older torch allows them
	@$(COMPILE_requirements-cuda12) $(call FOR,3.11) -o envs/requirements-cuda12.txt
	@$(COMPILE_official) $(call FOR,3.11) -o envs/official.txt
	@sed -i '1i # Install first, with: pip install --require-hashes -r envs/build.txt' envs/build.txt
	@for name in requirements requirements-cuda12 official; do \
		sed -i "1i # Install with: pip install $(PINNED) -r envs/$$name.txt (after envs/build.txt)" envs/$$name.txt; done

# torch from 2.11 on asks for setuptools on every version and the older one from Python 3.12 on; envs/build.txt installs it.
pins-of-each: $(STAMP)
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; for version in 3.11 3.12 3.13; do \
		$(foreach name,build requirements requirements-cuda12 official, \
			cp envs/$(name).txt "$$folder/pins.txt"; $(COMPILE_$(name)) $(call FOR,$$version) -o "$$folder/pins.txt"; \
			diff <(grep -oE '^[^ #]+==[^ ]+' envs/$(name).txt | grep -v ^setuptools) \
				<(grep -oE '^[^ #]+==[^ ]+' "$$folder/pins.txt" | grep -v ^setuptools) \
				|| { echo "error: envs/$(name).txt is no solution for Python $$version"; exit 1; };) \
		echo "the pins are a solution for Python $$version"; done

# PYTHON is the version of the machine that runs the suite, PLATFORM its processor; the digests are those of envs/requirements.txt.
PLATFORM ?= x86_64
gpu-wheels:
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,python3) benchmarks/carried_wheels.py fetch \
		--python $(PYTHON) --platform $(PLATFORM) wheels

clean-results:
	@rm -rf $(foreach scale,$(EMBEDDED),results/$(scale) results/$(scale)-release) results/mlflow results/mlflow.db \
		results/.mlflow_store.json \
		results/*.csv results/*.md results/*.tex results/*.pdf results/*.png results/report.html
