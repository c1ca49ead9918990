# The menu. `make help` lists it.
#
# Everything here works on a bare Debian 12 with Rust and git, as root. Without make: deploy/setup/install.sh
# installs it.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-stop test lint build bench chaos chaos-long prepare

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

setup: ## install missing packages, start Docker if it does not answer, provide base images
	deploy/setup/install.sh
	deploy/setup/docker.sh
	deploy/setup/images.sh

demo: ## a real push retrains a real model; a worse one is refused; a cron tick retrains by itself
	deploy/demo.sh

demo-stop: ## stop the daemon and the warehouse of the demo
	deploy/demo.sh stop

test: setup lint build ## everything: formatting, lints, queries, all tests on real Postgres and Docker
	deploy/test.sh

lint: ## formatting, clippy with warnings as errors, and the saved queries against the migrations
	$(CARGO) fmt --all --check
	rustfmt --edition 2024 --check crates/init/program/*.rs
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	crates/store/prepare.sh --check

build: ## the program and all tests, not run
	$(CARGO) build --workspace --all-targets --locked

bench: setup ## Trainyard against a bare Docker loop, as ratios measured in the same run
	$(CARGO) build --release --locked --package trainyard --package trainyard-tests --bins
	$(or $(CARGO_TARGET_DIR),target)/release/bench

chaos: setup ## the fault programme's gate: a minute of each fuzz target, faults by the rig, histories by the simulation
	$(CARGO) build --locked --package trainyard --features fail-points
	$(CARGO) run --release --locked --package trainyard-fuzz -- --seconds 60
	$(CARGO) test --locked --package trainyard-simulation --package trainyard-rig -- --test-threads 3

chaos-long: setup ## all of it: HOURS=8 SEED=7 RIG_TRIALS_F2=3000; the head of deploy/chaos-long.sh lists the rest
	deploy/chaos-long.sh

prepare: ## write .sqlx again after a change to a query or a migration
	crates/store/prepare.sh
