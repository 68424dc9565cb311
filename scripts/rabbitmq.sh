#!/usr/bin/env bash
# rabbitmq.sh start|stop|kill|restart DIR | ctl DIR ARGUMENT...
#
# A private RabbitMQ node in a throw-away folder, with the management API: 127.0.0.1 only, user and
# password guest, its own cookie, name, ports and port mapper (epmd), so any number of them run
# beside each other and beside a system's one. Data and ports outlive stop and kill. Prints its
# URL, which DIR/url keeps; DIR/management_url has the HTTP API's; logs are DIR/*.log. A file
# DIR/join that names another node's folder makes the two a cluster. `ctl` runs
# rabbitmqctl on the node. PARTNER_PROGRAM_TEST_RABBITMQ_MEMORY is what it may take before it blocks
# publishers: 1GB by default, for many nodes run at a time; PARTNER_PROGRAM_TEST_RABBITMQ_SCHEDULERS
# how many threads run its processes: 2 by default. They are not bound to cores, because all nodes
# would bind theirs to the same ones.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage='usage: rabbitmq.sh start|stop|kill|restart DIR | ctl DIR ARGUMENT...'
action=${1:?$usage}
dir=$(absolute "${2:?$usage}")
readonly start_seconds=120 stop_seconds=40
readonly schedulers=${PARTNER_PROGRAM_TEST_RABBITMQ_SCHEDULERS:-2}

choose_ports() {
    amqp_port=$(free_port)
    management_port=$(free_port)
    dist_port=$(free_port)
    epmd_port=$(free_port)
    mkdir -p "$dir/home"
    local first=''
    if [ -s "$dir/join" ]; then
        first=$(<"$dir/join")
        read -r first_amqp_port _ _ epmd_port <"$first/ports"
        cp -p "$first/home/.erlang.cookie" "$dir/home/"
    fi
    printf '[rabbitmq_management].\n' >"$dir/plugins"
    # Callers of the HTTP API need not wait five seconds for figures: queues count twice a second
    # (quorum queues have an interval of their own), and a sample is kept each second.
    cat >"$dir/advanced.config" <<-'CONFIG'
		[{rabbit, [{quorum_tick_interval, 500}]},
		 {rabbitmq_management_agent, [{sample_retention_policies,
		     [{global, [{60, 1}]}, {basic, [{60, 1}]}, {detailed, [{10, 1}]}]}]}].
	CONFIG
    cat >"$dir/rabbitmq.conf" <<-CONFIG
		listeners.tcp.1 = 127.0.0.1:$amqp_port
		management.tcp.ip = 127.0.0.1
		management.tcp.port = $management_port
		collect_statistics_interval = 500
		disk_free_limit.absolute = 50MB
		vm_memory_high_watermark.absolute = ${PARTNER_PROGRAM_TEST_RABBITMQ_MEMORY:-1GB}
		log.file.level = info
	CONFIG
    # The log of quorum queues stays in memory up to this bound, 512 MiB by default: with 1 GB some
    # hundred commands of 1 MiB would block every publisher, and nothing would clear the alarm.
    [ -n "${PARTNER_PROGRAM_TEST_RABBITMQ_MEMORY:-}" ] ||
        printf 'raft.wal_max_size_bytes = 67108864\n' >>"$dir/rabbitmq.conf"
    [ -z "$first" ] || cat >>"$dir/rabbitmq.conf" <<-CONFIG
		cluster_formation.peer_discovery_backend = classic_config
		cluster_formation.classic_config.nodes.1 = partner-program-$first_amqp_port@localhost
	CONFIG
}

save_ports() { printf '%s %s %s %s\n' "$amqp_port" "$management_port" "$dist_port" "$epmd_port" >"$dir/ports"; }

# Started by us, not by the node, because it outlives the node and has to be stopped too.
launch_epmd() {
    process_ended "$dir/epmd.pid" || return 0
    # The port mapper of the node that it joins serves it, too.
    ! port_answers "$epmd_port" || return 0
    (cd / && exec setsid epmd -port "$epmd_port" -address 127.0.0.1) \
        </dev/null >>"$dir/epmd.log" 2>&1 3>&- &
    remember_process "$dir/epmd.pid" $! || return 1
    wait_until 10 port_answers "$epmd_port"
}

# RUNNING_UNDER_SYSTEMD makes the launcher replace itself by the node, so that $! is the node.
launch() {
    launch_epmd || return 1
    (
        cd /
        exec setsid env -i PATH="$PATH" HOME="$dir/home" LANG=C.UTF-8 \
            RUNNING_UNDER_SYSTEMD=true \
            ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1 \
            RABBITMQ_CONF_ENV_FILE=/dev/null \
            RABBITMQ_NODENAME="partner-program-$amqp_port@localhost" \
            RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" \
            RABBITMQ_ADVANCED_CONFIG_FILE="$dir/advanced.config" \
            RABBITMQ_GENERATED_CONFIG_DIR="$dir/generated" \
            RABBITMQ_ENABLED_PLUGINS_FILE="$dir/plugins" \
            RABBITMQ_MNESIA_BASE="$dir/data" \
            RABBITMQ_LOG_BASE="$dir/log" \
            RABBITMQ_DIST_PORT="$dist_port" \
            RABBITMQ_SCHEDULER_BIND_TYPE=u \
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S $schedulers:$schedulers -kernel inet_dist_use_interface {127,0,0,1}" \
            "$rabbitmq_server"
    ) </dev/null >>"$dir/rabbitmq.log" 2>&1 3>&- &
    remember_process "$dir/pid" $! || true
    wait_until "$start_seconds" ready_or_ended && ! process_ended "$dir/pid" && ready
}

ready() {
    port_answers "$amqp_port" &&
        curl --silent --fail --max-time 2 --noproxy '*' --user guest:guest --output /dev/null \
            "http://127.0.0.1:$management_port/api/overview"
}
ready_or_ended() { ready || process_ended "$dir/pid"; }

start() {
    [ -x "$rabbitmq_server" ] || die 'RabbitMQ is missing: run scripts/install.sh'
    mark_folder "$dir"
    if [ -s "$dir/ports" ]; then
        read -r amqp_port management_port dist_port epmd_port <"$dir/ports"
        process_ended "$dir/pid" || { cat "$dir/url"; return; }
        launch || failed
    else
        # Somebody may take a port between the choice and its use.
        local started=no
        for _ in 1 2 3; do
            choose_ports
            if launch; then
                started=yes
                break
            fi
            stop
            rm -rf "$dir/data"
        done
        [ "$started" = yes ] || failed
        save_ports
    fi
    printf 'http://127.0.0.1:%s\n' "$management_port" >"$dir/management_url"
    printf 'amqp://guest:guest@127.0.0.1:%s/%%2f\n' "$amqp_port" | tee "$dir/url"
}

failed() {
    tail -n 20 "$dir/rabbitmq.log" >&2
    stop
    die "RabbitMQ was not ready within $start_seconds s; see above and the logs in $dir"
}

stop() {
    terminate "$dir/pid" TERM "$stop_seconds"
    terminate "$dir/epmd.pid" TERM 5
}

# The node only: epmd stays for the next start, as it does on a real machine.
kill_now() {
    local id
    id=$(running_process "$dir/pid") || die "no RabbitMQ runs in $dir"
    kill -9 "$id"
    wait_until 10 process_ended "$dir/pid" || die "process $id can't be killed"
    rm -f "$dir/pid"
}

control() {
    read -r amqp_port _ _ epmd_port <"$dir/ports"
    (
        cd /
        exec env -i PATH="$PATH" HOME="$dir/home" LANG=C.UTF-8 \
            ERL_EPMD_PORT="$epmd_port" RABBITMQ_CONF_ENV_FILE=/dev/null \
            RABBITMQ_NODENAME="partner-program-$amqp_port@localhost" \
            "${rabbitmq_server%-server}ctl" --quiet "$@"
    )
}

case $action in
start) start ;;
ctl) control "${@:3}" ;;
stop) stop ;;
kill) kill_now ;;
restart) stop && start ;;
*) die "$usage" ;;
esac
