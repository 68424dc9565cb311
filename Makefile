# Everything that a person or a machine does with this repository, by name.
# `scripts/install.sh` installs what is missing when run as root on Debian 12.

.DEFAULT_GOAL := help
.PHONY: help demo test faults soak bench instructions lint doc prepare

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

RABBITMQ ?= installed
ifeq ($(RABBITMQ),4)
rabbitmq = server=$$(scripts/rabbitmq-4.sh) && PARTNER_PROGRAM_TEST_RABBITMQ_SERVER=$$server
endif

demo: ## build and show the system at work on private servers (KEEP=1 leaves them running)
	@scripts/demo.sh

# Tests wait for servers more than they compute.
export RUST_TEST_THREADS ?= $(shell echo $$((4 * $$(nproc))))

test: ## run all tests on private servers (RABBITMQ=4: on a newer RabbitMQ; ONLY='smoke:: ordering::': these)
	@BROWSER=yes scripts/install.sh
	$(rabbitmq) SQLX_OFFLINE=true cargo test --locked --all-features $(if $(ONLY),--test it -- $(ONLY))

faults: ## run the fault suite alone and write what came of it to tests/FAULTS.md
	@scripts/faults.sh suite

MINUTES ?= 10
soak: ## let faults strike at random for MINUTES=10 under load
	@scripts/faults.sh soak "$(MINUTES)"

bench: ## measure the worker beside its peers and the machine's limits; writes benches/RESULTS.md
	@scripts/bench.sh

instructions: ## count what a command of one item takes, in instructions (valgrind)
	@scripts/instructions.sh

lint: ## run every other gate: format, clippy, documentation, spelling, dependencies, queries
	@LINT=yes scripts/install.sh
	@scripts/lint.sh

doc: ## build the documentation, private items included, into target/doc
	SQLX_OFFLINE=true cargo doc --locked --no-deps --document-private-items

prepare: ## write .sqlx anew after a query or a migration has changed
	@scripts/prepare.sh
