#!/usr/bin/env bash
# with-servers.sh COMMAND...
#
# Runs the command with DATABASE_URL and AMQP_URL. If both are set already, those are used;
# otherwise private servers are started, and stopped and deleted when the command has ended.
# KEEP=1 leaves them running and says how to reach and how to stop them. SERVERS_FOLDER tells the
# command where they are; a process whose id it writes to worker.pid there is stopped with them.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[ $# -gt 0 ] || die 'usage: with-servers.sh COMMAND...'

if [ -n "${DATABASE_URL:-}" ] && [ -n "${AMQP_URL:-}" ]; then
    exec "$@"
fi
if [ -n "${DATABASE_URL:-}${AMQP_URL:-}" ]; then
    die 'only one of DATABASE_URL and AMQP_URL is set: set both to use your servers, or none for private ones'
fi

keep=${KEEP:-0}
dir=$(new_folder)

clean_up() {
    local status=$?
    if [ "$keep" = 1 ] && [ -s "$dir/env" ]; then
        say ''
        say 'the servers keep running; to use them:'
        say "    . $dir/env"
        say 'to stop and delete them:'
        say "    $scripts/servers.sh delete $dir"
    else
        "$scripts/servers.sh" delete "$dir" || say "could not clean up $dir"
    fi
    return "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say 'starting a private Postgres and a private RabbitMQ (some ten seconds)'
if [ "$keep" = 1 ]; then
    "$scripts/servers.sh" start "$dir"
else
    "$scripts/servers.sh" start "$dir" --with-pid $$
fi
# shellcheck disable=SC1091
. "$dir/env"

SERVERS_FOLDER=$dir "$@"
