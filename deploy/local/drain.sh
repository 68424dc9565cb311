#!/usr/bin/env bash
# How fast one worker drains a lane of 50,000 commands (PARTNER_PROGRAM_BENCH_COMMANDS), and in how
# much memory: on private servers that vanish afterwards. Prints a table.
set -euo pipefail
# shellcheck source=deploy/local/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

"$local_scripts/install.sh"
SQLX_OFFLINE=true cargo bench --locked --quiet --bench drain
