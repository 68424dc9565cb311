#!/usr/bin/env bash
# prepare.sh [--check] [CLIPPY OPTION...]
#
# Writes .sqlx, which lets the queries be checked without a database, from a private, freshly
# migrated Postgres. With --check it writes nothing and fails if .sqlx is out of date. The queries
# are described while clippy reads all of the code, so clippy's findings come with it; options
# after a -- are for clippy.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

check=no
if [ "${1:-}" = --check ]; then
    check=yes
    shift
fi
[ "${1:-}" != -- ] || shift

# Never the caller's database: the queries are checked against this tree's migrations alone.
"$scripts/install.sh"
dir=$(new_folder)
trap '"$scripts/servers.sh" delete "$dir"' EXIT
"$scripts/postgres.sh" start "$dir/postgres" >/dev/null
DATABASE_URL=$(<"$dir/postgres/url")
psql() { "$(postgres_binaries)/psql" --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --dbname="$DATABASE_URL" "$@"; }
# As each session of the program has it, see src/store/connection.rs.
psql --command='create schema partner_program'
DATABASE_URL="$DATABASE_URL?options=-csearch_path%3Dpartner_program,pg_temp"
for migration in migrations/*.sql; do
    psql --single-transaction --file="$migration" >/dev/null
done

# sqlx's macros write what the database says of each query into this folder.
queries="$dir/queries"
mkdir "$queries"
# The cfg means nothing; it is another one each time, so that clippy reads unchanged code anew.
DATABASE_URL=$DATABASE_URL SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$queries \
    cargo clippy --locked --all-targets --all-features --quiet -- "$@" --cfg "run=\"${dir##*-}\""

if [ "$check" = yes ]; then
    diff --recursive --brief .sqlx "$queries" >&2 ||
        die '.sqlx is out of date: run make prepare, and commit what it writes'
else
    mkdir -p .sqlx
    rm -f .sqlx/query-*.json
    cp "$queries"/query-*.json .sqlx/
fi
