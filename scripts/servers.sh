#!/usr/bin/env bash
# servers.sh start|start-cluster DIR [--with-pid PID] | stop DIR | delete DIR
#
# Both private servers at once, in DIR/postgres and DIR/rabbitmq. DIR/env holds their URLs, ready
# to be sourced. With --with-pid a detached watcher stops both and deletes DIR once process PID has
# ended, however it ended. `stop` is graceful and keeps DIR; `delete` does not wait and deletes it.
# `start-cluster` adds a synchronous standby, DIR/postgres-2, and two more nodes, DIR/rabbitmq-2 and
# DIR/rabbitmq-3.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage='usage: servers.sh start|start-cluster DIR [--with-pid PID] | stop DIR | delete DIR'
action=${1:?$usage}
dir=$(absolute "${2:?$usage}")

# The watcher waits for this script as well, lest it stop servers that are still being started.
watch() {
    # shellcheck disable=SC2016
    setsid bash -c '
        tail --pid="$1" --sleep-interval=0.2 -f /dev/null
        tail --pid="$2" --sleep-interval=0.2 -f /dev/null
        exec "$3/servers.sh" delete "$4"
    ' watcher "$1" $$ "$scripts" "$dir" </dev/null >/dev/null 2>&1 3>&- &
}

start() {
    local postgres rabbitmq failed=no
    mark_folder "$dir"
    if [ -n "$1" ]; then
        [ -d "/proc/$1" ] || die "--with-pid: there is no process $1"
        watch "$1"
    fi
    "$scripts/postgres.sh" start "$dir/postgres" >/dev/null &
    postgres=$!
    "$scripts/rabbitmq.sh" start "$dir/rabbitmq" >/dev/null &
    rabbitmq=$!
    wait "$postgres" || failed=yes
    wait "$rabbitmq" || failed=yes
    if [ "$failed" = yes ]; then
        stop || true
        exit 1
    fi
    cat >"$dir/env" <<-ENV
		export DATABASE_URL=$(<"$dir/postgres/url")
		export AMQP_URL=$(<"$dir/rabbitmq/url")
		export PARTNER_PROGRAM_TEST_MANAGEMENT_URL=$(<"$dir/rabbitmq/management_url")
	ENV
}

start_cluster() {
    local server further=() failed=no
    start "$1"
    "$scripts/postgres.sh" follow "$dir/postgres-2" "$dir/postgres" >/dev/null &
    further+=($!)
    for server in rabbitmq-2 rabbitmq-3; do
        mkdir -p "$dir/$server"
        printf '%s' "$dir/rabbitmq" >"$dir/$server/join"
        "$scripts/rabbitmq.sh" start "$dir/$server" >/dev/null &
        further+=($!)
    done
    for server in "${further[@]}"; do
        wait "$server" || failed=yes
    done
    if [ "$failed" = yes ]; then
        stop || true
        exit 1
    fi
}

# each ACTION: what became of it does not keep the others from it.
each() {
    local folder failed=no running=()
    for folder in "$dir"/postgres* "$dir"/rabbitmq*; do
        [ -d "$folder" ] || continue
        server=$(basename "$folder")
        "$scripts/${server%-*}.sh" "$1" "$folder" &
        running+=($!)
    done
    for server in "${running[@]}"; do
        wait "$server" || failed=yes
    done
    [ "$failed" = no ]
}

# A worker that `make demo KEEP=1` has left, by its own pid.
end_worker() {
    local pid
    pid=$(cat "$dir/worker.pid" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != partner-program ] || kill "$pid"
    rm -f "$dir/worker.pid"
}

stop() {
    end_worker
    each stop
}

# Nothing in a folder that goes away is worth a graceful end. `stop` is left to end epmd.
delete() {
    [ -d "$dir" ] || return 0
    end_worker
    each kill 2>/dev/null || true
    stop
    delete_folder "$dir"
}

case $action in
start | start-cluster)
    case ${3:-} in
    '') watched='' ;;
    --with-pid) watched=${4:?$usage} ;;
    *) die "$usage" ;;
    esac
    "${action/-/_}" "$watched"
    ;;
stop) stop ;;
delete) delete ;;
*) die "$usage" ;;
esac
