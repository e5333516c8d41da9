# make lesson   run the whole course on this machine       make test   run every check
# make bench    measure the training recipes on this machine
# make gpu      on a machine with a CUDA GPU: are the course's promises kept there?
# make soak     kill a training 200 times (KILLS=1000 SEED=7 for others)
# make slides   a reveal.js deck of each notebook in _slides/, each a file that needs no network (needs npm)
# make site     the course as a web site in _site/, without a network
# make colab    build Colab's newest image (some GB) and try the notebooks there (FREEZE=2026-01: an older one)
# make lowest   train with the lowest versions that pyproject.toml allows (some GB), after a bound is changed
# make release VERSION=1.0.0   the wheel that the notebooks install, named in all of them
# make browser  look at the site and at the notebooks in a real Chromium (needs chromium, chromedriver, npm)
# All make .venv first, with the exact versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: lesson test bench gpu soak notebooks slides site browser colab lowest release check clean

lesson: $(VENV)/ready
	$(RUN) -m helpers lesson

test: check
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --nbmake notebooks/

# On a machine with a CUDA GPU; its own Python will do where there is no .venv.
gpu:
	$(or $(wildcard $(RUN)),$(PYTHON)) benchmarks/gpu.py --json gpu.json

# Each kill is a real SIGKILL at a random moment; nothing may be lost. About as many seconds as kills, times two.
soak: $(VENV)/ready
	$(RUN) tests/faults/soak.py --kills $(or $(KILLS),200) --seed $(or $(SEED),1)
	$(RUN) -m pytest tests -m soak

check: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# Execute the notebooks in place (pocket edition) and clean their outputs: before committing a changed notebook.
notebooks: $(VENV)/ready
	$(RUN) tools/execute_notebooks.py
	$(RUN) tools/release.py

# Refused while the course has no address: python -m helpers badges OWNER/REPO.
release: $(VENV)/ready
	@test -n "$(VERSION)" || { echo "Give the version: make release VERSION=1.0.0"; exit 2; }
	$(RUN) tools/release.py --version $(VERSION)

colab: $(VENV)/ready
	$(RUN) tests/colab/image.py .venv-colab --freeze $(or $(FREEZE),2026-08)
	COLAB_IMAGE=.venv-colab COLAB_FREEZE=$(or $(FREEZE),2026-08) $(RUN) -m pytest tests/colab -s

lowest: $(VENV)/ready
	$(RUN) -m pytest tests/lowest

# Fetches reveal.js once; after that it needs no network.
slides: $(VENV)/ready
	$(RUN) tools/slides.py

# From nothing each time: a page that is kept would keep its warnings to itself.
site: $(VENV)/ready-site
	rm -rf _site
	$(RUN) -m sphinx -q -E -W --keep-going -b html -c docs -d build/site/doctrees . _site
	@echo "the site: _site/index.html"

browser: site slides $(VENV)/ready $(VENV)/ready-browser tests/browser/node_modules/.package-lock.json
	$(RUN) -m pytest tests/browser

# Three recipes in turns, with the shipped model and data (benchmarks/README.md): a JSON object.
bench: $(VENV)/ready
	$(RUN) benchmarks/recipes.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# What the course, the site and the browser tests need: .venv/ready, .venv/ready-site, .venv/ready-browser.
$(VENV)/ready: requirements.txt
$(VENV)/ready-site: docs/requirements.txt
$(VENV)/ready-browser: tests/browser/requirements.txt
$(VENV)/ready $(VENV)/ready-site $(VENV)/ready-browser: constraints.txt | $(VENV)/bin/python
	$(RUN) -m pip install -q --disable-pip-version-check -r $(filter %requirements.txt,$^) -c constraints.txt
	touch $@

tests/browser/node_modules/.package-lock.json: tests/browser/package-lock.json
	cd tests/browser && npm ci --ignore-scripts --no-audit --no-fund

clean:
	rm -rf $(VENV) .venv-colab dist lesson_home _slides _site build/site tools/web/node_modules tests/browser/node_modules
