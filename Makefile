# Everything that the gate runs, under short names. PYTHON is the interpreter of the environment that pip installed into.
PYTHON ?= .venv/bin/python

# The longer files: the README's test line has them, `check` has not. Its tests run on one core; the types have the other.
LONGER = anatomy app bench_sequences browser claims cli closed_sessions contexts course course_files data_misread data_tables \
	deep_conventions deep_layers docs figures formal front futures gate hope hostile hosting html_export jupyter kept life live memory \
	methods notebooks optim_momentum optim_table portrait proxy recorder reproduce retention reveals room run_io scenarios sequences \
	share streams sweep titans widgets widths

.PHONY: check check-all lint types tests docs

check:  ## lint, types and the quick tests, on two cores
	$(MAKE) -j2 lint types tests

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m pyright --pythonpath $(PYTHON)

tests:
	$(PYTHON) -m pytest -m "not slow and not browser and not gpu" $(LONGER:%=--ignore=tests/test_%.py)

check-all:  ## what the gate runs: a fresh environment, lint, types, documentation and the test line of the README
	bash .ci/run

docs:  ## the documentation as a site in build/docs, without any network
	$(PYTHON) docs/build.py
	$(PYTHON) -m mkdocs build --strict
