#!/usr/bin/env bash
# How fast the archive of dead letters answers with 1,000,000 letters in it
# (PARTNER_PROGRAM_BENCH_LETTERS): on a private Postgres that vanishes afterwards. Prints a table of
# medians.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

"$scripts/install.sh"
SQLX_OFFLINE=true cargo bench --locked --quiet --no-run --bench letters
dir=$(new_folder)
trap '"$scripts/servers.sh" delete "$dir"' EXIT
"$scripts/postgres.sh" start "$dir/postgres" >/dev/null
DATABASE_URL=$(<"$dir/postgres/url")
export DATABASE_URL
SQLX_OFFLINE=true cargo bench --locked --quiet --bench letters
