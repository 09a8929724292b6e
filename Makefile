# Everything that the gate runs, under short names. PYTHON is the interpreter of the environment that pip installed into.
PYTHON ?= .venv/bin/python

# Tests that train whole runs, open pages or start processes: the README's test line has them, `check` has not.
LONGER = anatomy app bench_sequences browser cli contexts course course_files deep_conventions deep_layers futures gate hope hostile hosting \
	html_export jupyter kept live methods notebooks optim_table portrait proxy recorder reproduce retention room run_io scenarios \
	sequences share sweep titans widgets

.PHONY: check check-all lint types tests docs

check:  ## lint, types and the quick tests, on two cores
	$(MAKE) -j2 lint types tests

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .

types:
	$(PYTHON) -m pyright --pythonpath $(PYTHON)

tests:
	$(PYTHON) -m pytest -n 2 --dist worksteal -m "not slow and not browser and not gpu" $(LONGER:%=--ignore=tests/test_%.py)

check-all:  ## what the gate runs: a fresh environment, lint, types, documentation and the test line of the README
	bash .ci/run

docs:  ## the documentation as a site in build/docs, without any network
	$(PYTHON) docs/build.py
	$(PYTHON) -m mkdocs build --strict
