# Everything here sets itself up on a fresh machine with Python 3.11 or later, and is safe to repeat.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Checked by tools/language.py.
PLAIN := README.md CHANGELOG.md CONTRIBUTING.md CODE_OF_CONDUCT.md docs src
# A test that takes longer, in seconds, hangs: pytest prints the stack of each thread, and reports it as failed.
LIMIT := 600
# For users, and with the tools of developers. Both install what they need in one call, because a second one
# resolves and builds everything again.
USABLE := $(VENV)/.usable
READY := $(VENV)/.ready
# pip compiles on one core; afterwards all cores can do it. Files that are no Python, such as templates, stay as they are.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
COMPILE := $(BIN)/python -m compileall -q -q -j 0 -x '/tests?/' $(VENV)/lib || true

.PHONY: demo test slow check docs pictures wheel release clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("mien needs Python 3.11 or later, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(USABLE): pyproject.toml | $(BIN)/python
	@echo 'Installing mien with TensorFlow in $(VENV): about 2 GB, some minutes.'
	$(INSTALL) --editable '.[cpu,plot]'
	$(COMPILE)
	touch $(USABLE)

$(READY): pyproject.toml | $(BIN)/python
	@echo 'Installing mien with TensorFlow and the tools of developers in $(VENV): about 3 GB, some minutes.'
	$(INSTALL) --editable '.[cpu,plot,dev]'
	$(COMPILE)
	touch $(USABLE) $(READY)

demo: $(USABLE)
	$(BIN)/mien demo
	@echo 'next: source $(BIN)/activate, then: mien predict docs/pictures/faces.png'

test: $(READY)
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal \
		-o faulthandler_timeout=$(LIMIT) -o faulthandler_exit_on_timeout=true \
		--cov --cov-report=term --cov-fail-under=95 --durations=30

slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/language.py $(PLAIN)

docs: $(READY)
	$(BIN)/python tools/make_reference.py
	$(BIN)/zensical build --strict --clean

pictures: $(READY)
	$(BIN)/python docs/make_pictures.py

wheel: $(READY)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

release:
	@$(PYTHON) -c 'import sys; sys.exit("mien needs Python 3.11 or later, this is " + sys.version.split()[0] + "; try: make release PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) tools/release.py

clean:
	rm -rf $(VENV) build dist htmlcov .coverage* .mypy_cache .pytest_cache .ruff_cache
