# make lesson   run the whole course on this machine       make test   run every check
# make bench    measure the training recipes on this machine
# make soak     kill a training 200 times (KILLS=1000 SEED=7 for others)
# make slides   a reveal.js deck of each notebook in _slides/, each a file that needs no network (needs npm)
# All make .venv first, with the exact versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.PHONY: lesson test bench soak notebooks slides check clean

lesson: $(VENV)/ready
	$(RUN) -m helpers lesson

test: check
	$(RUN) -m pytest tests
	$(RUN) -m pytest --nbmake notebooks/

# Each kill is a real SIGKILL at a random moment; nothing may be lost. About as many seconds as kills, times two.
soak: $(VENV)/ready
	$(RUN) tests/faults/soak.py --kills $(or $(KILLS),200) --seed $(or $(SEED),1)

check: $(VENV)/ready
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

# Execute the notebooks in place (pocket edition) and clean their outputs: before committing a changed notebook.
notebooks: $(VENV)/ready
	$(RUN) tools/execute_notebooks.py

# Fetches reveal.js once; after that it needs no network.
slides: $(VENV)/ready
	$(RUN) tools/slides.py

# Three recipes in turns, with the shipped model and data (benchmarks/README.md): a JSON object.
bench: $(VENV)/ready
	$(RUN) benchmarks/recipes.py

$(VENV)/ready: requirements.txt constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements.txt -c constraints.txt
	touch $@

clean:
	rm -rf $(VENV) lesson_home _slides tools/web/node_modules
