#!/usr/bin/env bash
# faults.sh suite | table FILE | soak MINUTES
#
# `suite` runs every fault and every mutant, with longer outages than `make test`, writes what came
# of them to tests/FAULTS.md, and lets the release show the demo; `table`
# prints that page from the rows that a run with PARTNER_PROGRAM_TEST_TABLE=FILE left behind; `soak`
# lets faults strike at random for so long, under seeds that a failure prints. Both on private
# servers that vanish afterwards.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

usage='usage: faults.sh suite | table FILE | soak MINUTES'
export SQLX_OFFLINE=true

run() { "$scripts/install.sh" && cargo test --locked --all-features --test it -- --nocapture "$@"; }

rows() { grep "^$1 | " "$PARTNER_PROGRAM_TEST_TABLE" | cut -d '|' -f 2- | sort | sed 's/^/|/'; }

table() {
    cat <<-PAGE
		# Faults and mutants

		Written by \`make faults\`, from one run of the suite. What the columns and the checks mean:
		[README.md](README.md).

		## Each fault, under load

		| fault | commands | redeliveries | duplicates suppressed | longest stall | verdict |
		|---|---:|---:|---:|---:|---|
		$(rows fault)

		## Each protection taken out

		| without | fault | caught by |
		|---|---|---|
		$(rows mutant)
	PAGE
}

case ${1:-} in
suite)
    PARTNER_PROGRAM_TEST_TABLE=$(mktemp)
    export PARTNER_PROGRAM_TEST_TABLE
    trap 'rm -f "$PARTNER_PROGRAM_TEST_TABLE"' EXIT
    PARTNER_PROGRAM_TEST_OUTAGE_S=${PARTNER_PROGRAM_TEST_OUTAGE_S:-5} run faults:: protocol::
    # Once more in batches of 512, beside two further lanes; the table has the run above.
    PARTNER_PROGRAM_TEST_TABLE=/dev/null PARTNER_PROGRAM_TEST_DEFAULTS=1 run faults::suite
    # So many large commands fill the log of a broker with 1 GB, which then blocks publishers for good.
    PARTNER_PROGRAM_TEST_RABBITMQ_MEMORY=4GB PARTNER_PROGRAM_TEST_MEMORY_COMMANDS=3000 run memory::
    table >tests/FAULTS.md
    cat tests/FAULTS.md
    PROFILE=release "$scripts/demo.sh"
    ;;
table)
    PARTNER_PROGRAM_TEST_TABLE=${2:?$usage} table
    ;;
soak)
    minutes=${2:?$usage}
    PARTNER_PROGRAM_TEST_SCHEDULE_S=$((minutes * 60)) run faults::schedule
    ;;
*) die "$usage" ;;
esac
