# The verbs a person types.
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || echo 2)
# Snakemake does not quote the interpreter it starts, so below a folder with a space the environment lies elsewhere.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/requant
VENV := $(if $(word 2,$(CURDIR)),$(CACHE)/$(shell printf %s '$(CURDIR)' | cksum | cut -d' ' -f1),.venv)
BIN := $(VENV)/bin
# The folder in whose results/ a recipe is made.
FOLDER ?= .
# How often make bench runs each build.
ROUNDS ?= 5
CUDA := .venv-cuda
FUZZ := .venv-fuzz
# How many inputs make fuzz tries, over all targets together.
RUNS ?= 1000000
WEIGHTS ?= 1e9
# For which GPUs make test-cuda builds, by their compute capability without the point.
SM ?= 121
# How often make test-faults kills.
KILLS ?= 200
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)

.PHONY: setup setup-test setup-slurm demo demo-real test test-arm64 test-cuda test-architectures test-lanes test-long test-site test-faults test-slurm fuzz lint fix wasm bench rehearsal report site dist lock clean

setup: $(VENV)/workflow.done

$(VENV)/workflow.done: envs/workflow.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; install a newer one, or name it: make PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV) (hash-locked, envs/workflow.lock)"
	@$(PYTHON) -m venv $(VENV)
	@test $(VENV) = .venv || ln -sfn $(VENV) .venv
	@$(PIP) install --require-hashes --no-deps -r envs/workflow.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

# Adds what hands steps to a Slurm: docs/cluster.md.
setup-slurm: $(VENV)/slurm.done

$(VENV)/slurm.done: $(VENV)/workflow.done envs/slurm.lock
	@echo "adding Snakemake's plugin for Slurm (hash-locked, envs/slurm.lock)"
	@$(PIP) install --require-hashes --no-deps -r envs/slurm.lock
	@touch $@

setup-test: $(VENV)/test.done

$(VENV)/test.done: $(VENV)/workflow.done envs/test.lock
	@echo "adding the test tools (hash-locked, envs/test.lock)"
	@sed -n '/^uv==/,/[^\\]$$/p' envs/test.lock > $(VENV)/uv.lock
	@$(PIP) install --require-hashes --no-deps -r $(VENV)/uv.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r envs/test.lock || \
	  $(PIP) install --require-hashes --no-deps -r envs/test.lock
	@touch $@

demo: setup
	@$(SNAKEMAKE) --configfile config/tiny.yaml --directory "$(FOLDER)"
	@$(BIN)/requant verify "$(FOLDER)/results/Tiny-Qwen3/release"

demo-real: setup
	@$(SNAKEMAKE) --configfile config/smollm2.yaml --directory "$(FOLDER)" -- all answer_question
	@$(BIN)/requant verify "$(FOLDER)/results/SmolLM2-135M-Instruct/release"
	@cat "$(FOLDER)/results/SmolLM2-135M-Instruct/evaluation/answer.txt"

test: setup-test lint
	@$(BIN)/python -m pytest -m "not opt_in" --numprocesses 2

# Opt-in: what takes minutes and has a smaller form in the gate.
test-long: setup-test
	@$(BIN)/python -m pytest -m long --numprocesses 2 tests/e2e tests/native

# Opt-in: builds the site twice, follows its links, and looks at it in Chromium; half a minute.
test-site: $(VENV)/site.done
	@$(BIN)/python -m pytest -m site tests/site

# Opt-in: the release once more, by ARM64 programs under qemu; 5 minutes on two cores, the first time 11.
test-arm64: setup-test
	@$(BIN)/python -m pytest -m arm64 tests/arm64

# Opt-in: builds the CUDA backend with the compiler of envs/cuda.lock for the architectures SM, such as SM="89 90"; half an
# hour each on two cores, no GPU needed.
test-cuda: setup-test $(CUDA)/cuda.done
	@SM="$(SM)" REQUANT_CUDA_WHEELS=$$(echo $(CUDA)/lib/python3*/site-packages/nvidia/cu13) \
	  $(BIN)/python -m pytest -m cuda tests/cuda

# Opt-in: WEIGHTS weights of each type, a billion by default, in the lanes of every level and by llama.cpp itself: about
# 20 minutes on two cores, with 5e7 one.
test-lanes: setup-test
	@WEIGHTS=$(WEIGHTS) $(BIN)/python -m pytest -s -m lanes tests/lanes

# Opt-in: KILLS kills, 200 by default, power cuts, full disks and damaged files. A disk of its own needs a mount namespace.
test-faults: setup-test
	@KILLS=$(KILLS) unshare $(shell unshare --mount true 2>/dev/null || echo --map-root-user) --mount \
	  $(BIN)/python -m pytest -m faults tests/faults

# Opt-in, writes docs/architectures.md: a small model of every architecture that can be made here; 20 minutes on two cores.
test-architectures: setup-test
	@$(BIN)/python -m pytest -m architectures tests/architectures

# Opt-in, as root: the demo's recipe on the two nodes of a real Slurm; 8 minutes on two cores, and one demo.
test-slurm: setup-test setup-slurm
	@PYTHONPATH=tests $(BIN)/python -m support.slurm
	@$(MAKE) --no-print-directory demo FOLDER=build/tests
	@unshare --mount --net --uts --pid --fork --kill-child --mount-proc $(BIN)/python -m pytest -s -m slurm tests/slurm

$(CUDA)/cuda.done: envs/cuda.lock
	@echo "setting up $(CUDA) (hash-locked, envs/cuda.lock): downloading 0.5 to 0.6 GB"
	@$(PYTHON) -m venv $(CUDA)
	@$(CUDA)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps -r envs/cuda.lock
	@touch $@

# Opt-in: a million hostile inputs, guided by coverage, in build/fuzz; about 15 minutes on one core, where atheris has wheels.
fuzz: $(FUZZ)/fuzz.done
	@$(FUZZ)/bin/python tests/fuzz/run.py --runs $(RUNS)

$(FUZZ)/fuzz.done: envs/workflow.lock envs/fuzz.lock
	@echo "setting up $(FUZZ) (hash-locked, envs/workflow.lock and envs/fuzz.lock)"
	@$(PYTHON) -m venv $(FUZZ)
	@$(FUZZ)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps \
	  -r envs/workflow.lock -r envs/fuzz.lock
	@touch $@

lint: setup-test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=scripts:tests $(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/snakefmt --check Snakefile workflow
	@PATH="$(BIN):$$PATH" shellcheck envs/lock.sh .ci/run
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-actions action.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.citation-file-format CITATION.cff
	@$(BIN)/zizmor --offline --quiet .github action.yml
	@$(BIN)/snakemake --lint --configfile config/tiny.yaml

# Writes docs/benchmarks.*: half an hour on two idle cores with ROUNDS=2; the first time 10 minutes more, for upstream's build.
bench: demo $(VENV)/bench.done
	@$(BIN)/python bench/run.py --threads $(CORES) --rounds $(ROUNDS)
	@$(BIN)/python bench/audits.py --threads $(CORES) --rounds $(ROUNDS)

# Opt-in, writes docs/benchmarks-full-size.md: the default recipe with random weights, 40 minutes on two cores, 35 GB.
rehearsal: setup-test
	@$(BIN)/python bench/rehearsal.py --toolchains "$(FOLDER)/results/toolchains"

$(VENV)/bench.done: $(VENV)/test.done envs/bench.lock
	@$(PIP) install --require-hashes --no-deps -r envs/bench.lock
	@touch $@

# Writes what is made from the code: tables in documents, the picture of the rules (with graphviz), faces of the wings.
fix: setup-test
	@PYTHONPATH=scripts:tests $(BIN)/python tests/workflow/test_docs.py --fix
	@PYTHONPATH=scripts:tests $(BIN)/python tests/workflow/test_reference.py --fix
	@PYTHONPATH=scripts:tests $(BIN)/python tests/workflow/test_house.py --fix
	@$(BIN)/ruff format --quiet scripts

# Writes what the package carries of llama.cpp, workflow/upstream, from the first one of the pin table; fetches it once.
wasm: setup-test
	@$(BIN)/python -m requant.toolchain.wasm_module

report: setup
	@$(SNAKEMAKE) --configfile config/tiny.yaml --report results/Tiny-Qwen3/report.zip

# The documents as a site, in build/site: both languages, a search, nothing fetched from elsewhere, always the same bytes.
site: $(VENV)/site.done
	@SOURCE_DATE_EPOCH=0 NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --config-file site/mkdocs.yml
	@echo "wrote build/site; look at it: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site"

# jieba comes as sources alone, and is built with the locked setuptools.
$(VENV)/site.done: $(VENV)/test.done envs/site.lock
	@echo "adding what builds the site (hash-locked, envs/site.lock)"
	@$(PIP) install --require-hashes --no-deps --no-build-isolation -r envs/site.lock
	@touch $@

# The wheel and the source archive, in dist: the same bytes from every checkout.
dist: setup-test
	@$(BIN)/uv build --quiet --offline --no-build-isolation --python $(BIN)/python
	@cd dist && sha256sum *.whl *.tar.gz

lock: setup-test
	@PATH="$(CURDIR)/$(BIN):$$PATH" envs/lock.sh

clean:
	rm -rf results .snakemake
