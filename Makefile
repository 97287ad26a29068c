.DEFAULT_GOAL := help
.PHONY: help run price chain test commands crashtest drills alerts soak faults model replay bench mutation fuzz audit screens check fmt lock clean
SHELL := /bin/sh
MAKEFLAGS += --no-print-directory

# The first Python that runs at all; bootstrap.py then chooses the one for .venv and says what is missing.
SYSTEM_PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 7))' >/dev/null 2>&1 && echo $$p && break; done)
BOOTSTRAP = $(if $(SYSTEM_PYTHON),$(SYSTEM_PYTHON),$(error Vanta needs Python 3.11 or newer: none is on the path)) \
	ops/rehearsal/bootstrap.py
PYTHON := .venv/bin/python
# Minutes are made half seconds there, so nothing else runs beside it.
ALONE := tests/ops/alerts/test_delivery.py
DRILLS ?= redis-outage rpc-trouble duplicate-signal emergency-stop crash reorg database restore

# What settings want before any server is there; nothing in `check` connects anywhere.
CHECK_ENV = DATABASE_URL=postgresql://vanta@127.0.0.1:9/vanta REDIS_URL=redis://127.0.0.1:9/0 \
	BASE_RPC_URL=http://127.0.0.1:9 CHAIN_ID=31337 WEBHOOK_HMAC_SECRET=only-for-static-checks-0123456789 \
	ADMIN_TOKEN=only-for-static-checks-9876543210 LOG_LEVEL=ERROR \
	SECRET_KEY=only-for-static-checks-a8F3kQ9zLw2Xv7Bn5Tc1Rm6Yp4Hd0Gs
DEPLOY_ENV_OF_CHECK = $(CHECK_ENV) CHAIN_ID=8453 EXEC_MODE=DRY DEPLOY_ENV=production

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

run: ## the whole stack in the foreground, DRY (EXEC_MODE=LIVE make run trades on the rehearsal chain)
	@$(BOOTSTRAP) run
	@exec $(PYTHON) -m ops.rehearsal run

price: ## a price of the running rehearsal chain: SYMBOL=BTC-USD USD=95000 sets it, without them all are told
	@$(BOOTSTRAP) run
	@$(PYTHON) -m ops.rehearsal price $(SYMBOL) $(USD)

chain: ## the rehearsal chain alone: node on 127.0.0.1:8545, contracts, keeper, faucet
	@$(BOOTSTRAP) run
	@exec $(PYTHON) -m ops.rehearsal chain

test: ## the whole test suite on real parts (ARGS="-k nonce -x" goes to pytest)
	@$(BOOTSTRAP) dev
	@$(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(or $(ARGS),--ignore=$(ALONE))
	@$(if $(ARGS),,$(PYTHON) -m pytest $(ALONE))

drills: ## faults on purpose against the stack that `make run` started (DRILLS="crash" ARGS="--seconds 10")
	@$(BOOTSTRAP) run
	@test -f var/stack.env || { echo "make drills: no var/stack.env; start the stack with \`make run\` first" >&2; exit 2; }
	@set -a; . var/stack.env; set +a; failed=; for drill in $(DRILLS); do \
		$(PYTHON) manage.py drill $$drill $(ARGS) || failed="$$failed $$drill"; done; \
	test -z "$$failed" || { echo "make drills: not passed:$$failed; reports in var/drills/" >&2; exit 1; }

crashtest: ## SIGKILL at every point of the code and on every road, and planted bugs; over 5,000 trials (ARGS="--slice 100" and others)
	@$(BOOTSTRAP) dev
	@$(PYTHON) -m tests.crash $(ARGS)

alerts: ## real faults, each alert of the rules fires and arrives once; ARGS="--only VantaRedisAway" or "--quiet-minutes 15"
	@$(BOOTSTRAP) dev
	@$(PYTHON) -m tests.alerts $(ARGS)

soak: ## the whole stack under traffic and faults; MINUTES=15, ARGS="--seed 7 --rate 2"; report in var/soak/
	@$(BOOTSTRAP) dev
	@$(PYTHON) -m tests.soak --minutes $(or $(MINUTES),15) $(ARGS)

faults: ## each process cut off from each of its servers in each way, as a table; ARGS="--only beat postgres"
	@$(BOOTSTRAP) dev
	@$(PYTHON) -m tests.faults $(ARGS)

replay: ## a day of prices through the watch over levels, at 100 times the market's pace (ARGS="--speed 0 --seed 7")
	@$(BOOTSTRAP) dev
	@$(PYTHON) -m tests.replay $(ARGS)

bench: ## intents/s of the engine alone, signals/s of the whole road, and what limits each (ARGS="--only engine --json")
	@$(BOOTSTRAP) dev
	@$(PYTHON) -m tests.bench $(ARGS)

model: ## random orders of moves against a small model; EXAMPLES=200
	@$(BOOTSTRAP) dev
	@MODEL_EXAMPLES=$(or $(EXAMPLES),200) $(PYTHON) -m pytest tests/model/test_model.py -q --show-capture=no $(ARGS)

fuzz: ## hostile requests to every route, held against what the API's document promises; EXAMPLES=500
	@$(BOOTSTRAP) dev
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),500) $(PYTHON) -m pytest tests/fuzz -q --show-capture=no $(ARGS)

audit: ## known vulnerabilities of what is pinned; needs the network and fails without it (ARGS="--service osv")
	@$(BOOTSTRAP) dev
	@$(PYTHON) -m tests.audit $(ARGS)

mutation: ## small changes of the code that guards money, each of which a test has to notice (ARGS="--only gate --sample 50")
	@$(BOOTSTRAP) dev
	@$(PYTHON) -m tests.mutation $(ARGS)

commands: ## every command of the documents: run, run against a stand-in or validated only (ARGS="--json")
	@$(BOOTSTRAP) dev
	@$(CHECK_ENV) DJANGO_SETTINGS_MODULE=vanta.settings $(PYTHON) -m tests.documents $(ARGS)

screens: ## pictures of the bot's conversations and the panel's pages, to look at, in var/screens/ (ARGS="-k binding")
	@$(BOOTSTRAP) dev
	@PANEL_SCREENS=1 $(PYTHON) -m pytest -q $(or $(ARGS),tests/ops/panel/test_browser.py) \
		tests/ops/bot/trades/screens.py tests/ops/bot/trades/screens_trading.py tests/ops/bot/trades/screens_resuming.py

check: ## format, lint, types, import contracts, migrations, deploy check
	@$(BOOTSTRAP) dev
	@$(CHECK_ENV) $(PYTHON) -m mypy . & types=$$!; trap 'kill $$types 2>/dev/null || :' EXIT; set -e; \
	echo format;     $(PYTHON) -m ruff format --check .; \
	echo lint;       $(PYTHON) -m ruff check .; \
	echo imports;    $(CHECK_ENV) .venv/bin/lint-imports; \
	echo migrations; $(CHECK_ENV) $(PYTHON) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run; \
	echo deployment; $(DEPLOY_ENV_OF_CHECK) $(PYTHON) manage.py check --deploy --fail-level WARNING; \
	echo types;      wait $$types

fmt: ## format and fix what can be fixed by itself
	@$(BOOTSTRAP) dev
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

lock: ## pin requirements*.in anew, with hashes (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes -q -o requirements.txt requirements.in
	uv pip compile --universal --python-version 3.11 --generate-hashes -q -o requirements-dev.txt requirements-dev.in

clean: ## delete var/ (database, chain, keys, logs); refuses while the stack runs or where real money may be
	@if [ -e var ]; then $(BOOTSTRAP) run && $(PYTHON) -m ops.rehearsal clean; else echo "nothing to delete"; fi
