# The two commands:   make bench    the benchmark, on levels and catalogues that the project generates itself
#                     make test     lint, types and tests
# Each creates its own environment first; Python ≥ 3.11 is all that a machine needs.

PYTHON ?= python3
VENV ?= .venv
OUT ?= results
LEVELS ?=
PRODUCTS ?=

.PHONY: bench bench-full test lint conformance conformance-losses wheel clean

bench: $(VENV)/bench.installed
	$(VENV)/bin/python -m benchmarks run --budget quick --out $(OUT)/quick

bench-full: $(VENV)-peers/peers.installed
	$(VENV)-peers/bin/python -m benchmarks run --budget full --peers --out $(OUT)/full \
		$(if $(LEVELS),--levels "$(LEVELS)") $(if $(PRODUCTS),--products "$(PRODUCTS)")

test: lint
	$(VENV)/bin/python -m pytest --ignore=tests/conformance -n auto --dist loadfile

lint: $(VENV)/test.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The published packages that we compare with. Some pin an older JAX, so they have an environment of their own.
conformance: $(VENV)-peers/conformance.installed
	$(VENV)-peers/bin/python -m pytest tests/conformance -n auto --dist loadfile

# The losses against the code of TRL, tunix and rlax, whose source is read: what they would import is not needed.
conformance-losses: $(VENV)-losses/losses.installed
	$(VENV)-losses/bin/python -m pip install --quiet --no-deps trl==1.16.0 google-tunix==0.1.7 rlax==0.1.9
	$(VENV)-losses/bin/python -m pytest tests/conformance/test_losses.py

# torch for CPUs alone: PyPI's for Linux brings CUDA along.
$(VENV)-losses/losses.installed: export PIP_EXTRA_INDEX_URL := https://download.pytorch.org/whl/cpu

wheel: $(VENV)/test.installed
	rm -rf build dist
	$(VENV)/bin/python -m build --wheel --no-isolation --outdir dist .
	PYTHON=$(VENV)/bin/python tests/smoke_test_wheel.sh dist/*.whl

clean:
	rm -rf $(VENV) $(VENV)-peers $(VENV)-losses build dist *.egg-info .jax_cache

%.installed: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade pip setuptools wheel
	$(@D)/bin/python -m pip install --quiet --no-build-isolation --editable ".[$(basename $(@F))]"
	touch $@
