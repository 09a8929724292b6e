# Everything that the gate runs, under short names. PYTHON is the interpreter of the environment that pip installed into.
PYTHON ?= .venv/bin/python

.PHONY: check check-all docs

check:  ## lint, types and the fast tests
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m pyright --pythonpath $(PYTHON)
	$(PYTHON) -m pytest -n 2 -m "not slow and not browser and not gpu"

check-all:  ## what the gate runs: a fresh environment, lint, types, documentation and the test line of the README
	bash .ci/run

docs:  ## the documentation as a site in build/docs, without any network
	$(PYTHON) docs/build.py
	$(PYTHON) -m mkdocs build --strict
