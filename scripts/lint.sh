#!/usr/bin/env bash
# Every gate but the tests: format, clippy, documentation, file length, spelling, dependencies, and the
# queries against a migrated database. Goes on after a failure and names all that failed. Each step
# shares what the one before it has built.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

readonly longest_file_lines=500
readonly advisories_seconds=120
failures=()

step() {
    local title=$1
    shift
    say ''
    say "--- $title"
    "$@" || failures+=("$title")
}

file_length() {
    local file lines long=no
    while IFS= read -r -d '' file; do
        lines=$(wc -l <"$file")
        if [ "$lines" -gt "$longest_file_lines" ]; then
            say "$file has $lines lines, $longest_file_lines are allowed"
            long=yes
        fi
    done < <(find src tests -name '*.rs' -print0)
    [ "$long" = no ]
}

documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items --quiet; }

# The advisory database is on a Git host that may be out of reach, which says nothing about this
# repository; whatever cargo-deny finds in it does.
dependencies() {
    cargo_deny || return 1
    cargo deny --locked --log-level warn check bans licenses sources || return 1
    if GIT_TERMINAL_PROMPT=0 timeout "$advisories_seconds" cargo deny --locked fetch db >/dev/null 2>&1; then
        cargo deny --locked --log-level warn check advisories
    else
        say 'SKIPPED: advisories, because the advisory database could not be fetched'
    fi
}

spelling() {
    typos_program || return 1
    typos
}

clippy_and_queries() { "$scripts/prepare.sh" --check -- -D warnings; }

step 'format' cargo fmt --all --check
step "files of at most $longest_file_lines lines" file_length
step 'spelling' spelling
step 'dependencies' dependencies
step 'clippy, and the queries against a migrated database' clippy_and_queries
export SQLX_OFFLINE=true
# As it is released.
step 'clippy without features' cargo clippy --locked --quiet -- -D warnings
step 'documentation' documentation

say ''
if [ "${#failures[@]}" -gt 0 ]; then
    die "failed: $(printf '%s; ' "${failures[@]}")"
fi
say 'all gates passed'
