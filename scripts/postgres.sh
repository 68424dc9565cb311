#!/usr/bin/env bash
# postgres.sh start|stop|kill|restart|promote|start-standby DIR | follow DIR PRIMARY
#
# A private Postgres in a throw-away folder: 127.0.0.1 only, durable as in production (fsync on),
# user postgres without a password. Data and port outlive stop and kill. Prints its URL, which
# DIR/url keeps; the log is DIR/postgres.log. `follow` makes a synchronous standby of the one in
# PRIMARY, without which that one commits no more; `promote` makes a primary of a standby, which
# waits for no other; `start-standby` lets a primary that has stopped come back as a standby that
# follows nobody: read-only, and behind the one that was promoted.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage='usage: postgres.sh start|stop|kill|restart|promote|start-standby DIR | follow DIR PRIMARY'
action=${1:?$usage}
dir=$(absolute "${2:?$usage}")
readonly start_seconds=60 stop_seconds=30

# Postgres refuses to run as root.
unprivileged() {
    if is_root; then
        setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"
    else
        "$@"
    fi
}

ready() {
    "$binaries/pg_isready" --quiet --host=127.0.0.1 --port="$port" --username=postgres \
        --dbname=postgres --timeout=1
}
ready_or_ended() { ready || process_ended "$dir/pid"; }

initialise() {
    mark_folder "$dir"
    if is_root; then
        id postgres >/dev/null 2>&1 || die 'there is no user postgres: run scripts/install.sh'
        chown postgres: "$dir"
    fi
    unprivileged test -w "$dir" ||
        die "user postgres can't reach $dir: choose a folder below /var/tmp"
    (cd / && unprivileged env -u PGDATA "$binaries/initdb" --pgdata="$dir/data" --username=postgres \
        --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync) >"$dir/initdb.log" 2>&1 ||
        die "initdb failed: $(tail -n 5 "$dir/initdb.log")"
    cat >>"$dir/data/postgresql.conf" <<-CONFIG
		listen_addresses = '127.0.0.1'
		unix_socket_directories = ''
		max_connections = 300
		fsync = on
		synchronous_commit = on
		full_page_writes = on
		max_wal_size = '1GB'
		timezone = 'UTC'
	CONFIG
}

launch() {
    # A new session, so that an interrupt of the caller's terminal leaves it alone.
    (
        cd /
        if is_root; then
            exec setsid setpriv --reuid=postgres --regid=postgres --clear-groups -- \
                "$binaries/postgres" -D "$dir/data" -p "$port"
        else
            exec setsid "$binaries/postgres" -D "$dir/data" -p "$port"
        fi
    ) </dev/null >>"$dir/postgres.log" 2>&1 3>&- &
    remember_process "$dir/pid" $! || true
    wait_until "$start_seconds" ready_or_ended && ! process_ended "$dir/pid" && ready
}

start() {
    local url
    binaries=$(postgres_binaries)
    [ -n "$binaries" ] || die 'Postgres 15 or later is missing: run scripts/install.sh'
    [ -d "$dir/data" ] || initialise
    if [ -s "$dir/port" ]; then
        port=$(<"$dir/port")
        process_ended "$dir/pid" || { cat "$dir/url"; return; }
        launch || failed
    else
        # Somebody may take the port between the choice and its use.
        local started=no
        for _ in 1 2 3; do
            port=$(free_port)
            if launch; then
                started=yes
                break
            fi
            terminate "$dir/pid" QUIT "$stop_seconds"
        done
        [ "$started" = yes ] || failed
        printf '%s\n' "$port" >"$dir/port"
    fi
    url="postgres://postgres@127.0.0.1:$port/postgres"
    printf '%s\n' "$url" | tee "$dir/url"
}

failed() {
    tail -n 20 "$dir/postgres.log" >&2
    terminate "$dir/pid" QUIT "$stop_seconds"
    die "Postgres was not ready within $start_seconds s; its log is above and in $dir/postgres.log"
}

# Fast mode: open transactions are rolled back.
stop() { terminate "$dir/pid" INT "$stop_seconds"; }

# As if the machine had lost its power: the server and its backends end at once. A backend that
# outlived the server would keep the data folder locked.
kill_now() {
    local id child
    local -a children
    id=$(running_process "$dir/pid") || die "no Postgres runs in $dir"
    mapfile -t children < <(child_processes "$id")
    kill -9 "$id" "${children[@]}" 2>/dev/null || true
    for child in "$id" "${children[@]}"; do
        wait_until 10 process_gone "$child" || die "process $child can't be killed"
    done
    # All of it has ended; but until init has collected the server, its id looks alive to the next
    # one, which would then refuse to start.
    rm -f "$dir/pid" "$dir/data/postmaster.pid"
}

process_gone() { ! process_start "$1" >/dev/null; }

follow() {
    local primary url
    primary=$(absolute "$1")
    url=$(<"$primary/url")
    binaries=$(postgres_binaries)
    mark_folder "$dir"
    ! is_root || chown postgres: "$dir"
    (cd / && unprivileged "$binaries/pg_basebackup" --pgdata="$dir/data" --write-recovery-conf \
        --wal-method=stream --checkpoint=fast --no-sync \
        --dbname="${url%/*}/replication?application_name=standby") >"$dir/basebackup.log" 2>&1 ||
        die "pg_basebackup failed: $(tail -n 5 "$dir/basebackup.log")"
    start
    run_sql "$url" "alter system set synchronous_standby_names = 'standby'" 'select pg_reload_conf()' ||
        die "the primary does not wait for its standby: $(tail -n 5 "$dir/sql.log")"
}

# run_sql URL STATEMENT...
run_sql() {
    local statement url=$1 commands=()
    shift
    for statement in "$@"; do
        commands+=(--command="$statement")
    done
    (cd / && unprivileged "$binaries/psql" --quiet --no-psqlrc --set=ON_ERROR_STOP=1 --dbname="$url" \
        "${commands[@]}") >>"$dir/sql.log" 2>&1
}

promote() {
    local url
    url=$(<"$dir/url")
    binaries=$(postgres_binaries)
    # Its own standbys, if it was told of any, are not there yet.
    run_sql "$url" 'alter system reset synchronous_standby_names' 'select pg_reload_conf()' \
        "do \$\$ begin if not pg_promote(true, $start_seconds) then raise 'not in time'; end if; end \$\$" ||
        die "it can't be promoted: $(tail -n 5 "$dir/sql.log")"
}

start_standby() {
    process_ended "$dir/pid" || die "stop the Postgres in $dir first"
    unprivileged touch "$dir/data/standby.signal"
    start
}

case $action in
start) start ;;
follow) follow "${3:?$usage}" ;;
promote) promote ;;
start-standby) start_standby ;;
stop) stop ;;
kill) kill_now ;;
restart) stop && start ;;
*) die "$usage" ;;
esac
