#!/usr/bin/env bash
# bench.sh [SECTION...]
#
# Measures the worker beside its peers and the machine's limits, on private servers that vanish
# afterwards, and writes what came of it to benches/RESULTS.md: all of it in half an hour. With
# sections (drain, routing, steady, shapes, growth, recovery, huge) only these, to standard output.
# PARTNER_PROGRAM_BENCH_ROUNDS is how often each figure is taken, 5 by default.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"
export SQLX_OFFLINE=true
# With less the broker stops publishers for a second now and then, and that is what is measured.
export PARTNER_PROGRAM_TEST_RABBITMQ_MEMORY=4GB
# As many as a broker has by default.
PARTNER_PROGRAM_TEST_RABBITMQ_SCHEDULERS=$(nproc)
export PARTNER_PROGRAM_TEST_RABBITMQ_SCHEDULERS

run() { cargo bench --locked --quiet --bench suite -- "$@"; }

machine() {
    local processor memory
    processor=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    memory=$(awk '/^MemTotal/ { printf "%.0f", $2 / 1024 / 1024 }' /proc/meminfo)
    printf '%s cores of %s, %s GiB; Postgres %s, RabbitMQ %s' "$(nproc)" "$processor" "$memory" \
        "$("$(postgres_binaries)/postgres" --version | grep -oE '[0-9]+(\.[0-9]+)?' | head -n 1)" \
        "$(dpkg-query --showformat='${Version}' --show rabbitmq-server 2>/dev/null || echo '?')"
}

page() {
    cat <<-PAGE
		# What it does a second

		Written by \`make bench\` on $(date -u +%Y-%m-%d): $(machine).
		Broker, database, contender and the bench itself share the machine. All is durable: fsync and
		synchronous_commit, quorum queues, persistent messages, confirms, acks last. 4,000,000
		customers with two enrolments each; each command names one customer and one program and
		succeeds: half are links, three in ten updates, two in ten delinks. Figures are medians, from
		the least to the most in brackets; contenders take turns, round by round. [README.md](README.md)
		says what is measured how.
	PAGE
	"$@"
}

"$scripts/install.sh"
benches/peers/install.sh
if [ $# -gt 0 ]; then
    run "$@"
else
    results=$(run)
    instructions=$("$scripts/instructions.sh")
    page printf '%s\n\n## Instructions of a command of one item\n\n%s\n' "$results" "$instructions" \
        >benches/RESULTS.md
    cat benches/RESULTS.md
fi
