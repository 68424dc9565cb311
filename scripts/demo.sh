#!/usr/bin/env bash
# Installs what is missing, builds, and shows the system at work on private servers that vanish
# afterwards. With KEEP=1 the servers stay, a worker goes on with its console, and the address is
# printed. PROFILE=release shows the release, which takes longer to build.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

readonly console_seconds=60

# stay PROGRAM FOLDER: a worker that outlives this script, until servers.sh deletes FOLDER.
stay() {
    local program=$1 folder=$2 port deadline
    port=$(free_port)
    PARTNER_PROGRAM_OPS_LISTEN=127.0.0.1:$port setsid "$program" run </dev/null >"$folder/worker.log" 2>&1 &
    printf '%s' $! >"$folder/worker.pid"
    deadline=$((SECONDS + console_seconds))
    until port_answers "$port"; do
        [ "$SECONDS" -lt "$deadline" ] || die "the console does not answer within $console_seconds s: see $folder/worker.log"
        [ -d "/proc/$(<"$folder/worker.pid")" ] || die "the worker has ended: see $folder/worker.log"
        sleep 0.1
    done
    say ''
    say "a worker keeps running, its log is $folder/worker.log; the console is at:"
    say "    http://localhost:$port"
}

# On servers that with-servers.sh has started.
if [ "${1:-}" = --on-servers ]; then
    program=$2
    shift 2
    "$program" demo "$@"
    if [ "${KEEP:-0}" = 1 ] && [ -n "${SERVERS_FOLDER:-}" ]; then
        stay "$program" "$SERVERS_FOLDER"
    fi
    exit
fi

"$scripts/install.sh"
say 'building (some minutes the first time)'
profile=${PROFILE:-dev}
SQLX_OFFLINE=true cargo build --profile "$profile" --locked
[ "$profile" != dev ] || profile=debug
program=$(absolute "${CARGO_TARGET_DIR:-target}/$profile/partner-program")
"$scripts/with-servers.sh" "$scripts/demo.sh" --on-servers "$program" "$@"
