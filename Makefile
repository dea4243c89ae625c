# make        the environment from the lock, then the quick study from start to report
# make open   the report, in a browser
# make test   the same environment, the fast tests
.PHONY: all env wheelhouse quick open test test-all check docs lock clean

# The Python below any virtual environment that is active, this project's own included.
PYTHON := $(shell python3 -c "import sys; print(sys._base_executable)")
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
FROM := $(if $(WHEELHOUSE),--no-index --find-links $(WHEELHOUSE))
UV := $(shell grep -oE '^uv==[^ ]+' envs/requirements.lock)

all: quick

env: .venv/installed

# Made without pip, so that a Python whose ensurepip is packaged apart will do; any pip on the machine puts uv in.
.venv/installed: envs/requirements.lock pyproject.toml
	$(PYTHON) -m venv --without-pip --clear .venv
	$(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check $(FROM) $(UV)
	$(BIN)/uv pip sync --quiet --python $(BIN)/python $(FROM) --require-hashes envs/requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(FROM) --no-deps --no-build-isolation --editable .
	touch $@

# Everything that `make env` installs, to carry to a machine without a network: make WHEELHOUSE=wheelhouse env
wheelhouse: envs/requirements.lock
	$(PYTHON) -m pip download --quiet --disable-pip-version-check --require-hashes --requirement $< --dest $@

quick: env
	snakemake --cores all
	@cat results/logs/quick/decide_claims.log
	@echo "The report: results/quick/report/index.html (make open)"

open:
	@$(PYTHON) -m webbrowser "file://$(CURDIR)/results/quick/report/index.html"

test: env
	pytest -m "not slow" --numprocesses 2

test-all: env
	pytest --numprocesses 2

check: env
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint

# The theme says at every start that it will be succeeded; the variable keeps it to what is wrong.
docs: env
	NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict
	@echo "The site: site/index.html"

lock: env
	uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
		--upgrade --python-version 3.11 --all-extras --group dev pyproject.toml --output-file envs/requirements.lock

clean:
	rm -rf .venv .snakemake site results/quick results/store results/data results/logs results/rebuilt
