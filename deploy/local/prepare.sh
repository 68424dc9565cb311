#!/usr/bin/env bash
# prepare.sh [--check]
#
# Writes .sqlx, which lets the queries be checked without a database, from a private, freshly
# migrated Postgres. With --check it writes nothing and fails if .sqlx is out of date.
set -euo pipefail
# shellcheck source=deploy/local/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

# Never the caller's database: the queries are checked against this tree's migrations alone.
"$local_scripts/install.sh"
tool sqlx-cli 0.9.0 --no-default-features --features postgres,rustls
dir=$(new_folder)
trap '"$local_scripts/servers.sh" delete "$dir"' EXIT
"$local_scripts/postgres.sh" start "$dir/postgres" >/dev/null
DATABASE_URL=$(<"$dir/postgres/url")
export DATABASE_URL
unset SQLX_OFFLINE

sqlx migrate run --source migrations >&2
cargo sqlx prepare "$@" -- --locked --all-targets --all-features
