#!/usr/bin/env bash
# The instructions that a command of one item takes to be read, decided and written, as valgrind
# counts them: the same on a busy machine, so a change of a few per cent is seen. A report, no gate.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

VALGRIND=yes "$scripts/install.sh"
program=$(SQLX_OFFLINE=true cargo bench --locked --quiet --bench hot --no-run --message-format json |
    grep -o '"executable":"[^"]*/hot-[^"]*"' | cut -d '"' -f 4)

# counted STEP TIMES: the instructions of the whole process.
counted() {
    PARTNER_PROGRAM_HOT_COUNTED=$1:$2 valgrind --tool=callgrind --callgrind-out-file=/dev/null \
        "$program" 2>&1 | sed -n 's/.*Collected : //p'
}

# What the start of the process takes, and the facts that each step begins with, is left out.
each() { echo $((($(counted "$1" 300) - $(counted "$1" 100)) / 200)); }

nothing=$(each nothing)
printf '| step | instructions |\n|---|---:|\n'
for step in decode evaluate encode; do
    printf '| %s | %s |\n' "$step" $(($(each "$step") - nothing))
done
