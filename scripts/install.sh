#!/usr/bin/env bash
# Installs what the demo and the tests need on Debian 12: the server binaries of Postgres and
# RabbitMQ, a C compiler, make and curl; with BROWSER=yes a Chromium for the tests of the console,
# with LINT=yes what fetches a tool of `make lint`, with VALGRIND=yes what counts instructions, with
# RABBITMQ=4 what unpacks a newer RabbitMQ. Starts no system service, makes no database cluster,
# and does nothing when all of it is there. The Rust toolchain is yours to bring;
# rust-toolchain.toml says which.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

missing=()
[ -n "$(postgres_binaries)" ] || missing+=(postgresql)
[ -x "$rabbitmq_server" ] && command -v epmd >/dev/null || missing+=(rabbitmq-server)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
command -v curl >/dev/null || missing+=(curl ca-certificates)
# The browser is for the tests alone.
if [ "${BROWSER:-no}" = yes ]; then
    command -v chromium >/dev/null || missing+=(chromium fonts-dejavu-core)
    command -v chromedriver >/dev/null || missing+=(chromium-driver)
fi
[ "${VALGRIND:-no}" = no ] || command -v valgrind >/dev/null || missing+=(valgrind)
# Without it `make lint` builds a tool instead, so it is no must.
if [ "${LINT:-no}" = yes ] && is_root; then
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
fi
[ "${RABBITMQ:-}" != 4 ] || command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)

[ "${#missing[@]}" -gt 0 ] || exit 0

command -v apt-get >/dev/null ||
    die "these are missing: ${missing[*]}; only Debian and its kin are known here, so please install them"
is_root ||
    die "these are missing: ${missing[*]}; run as root: $scripts/install.sh, or: apt-get install --no-install-recommends ${missing[*]}"

say "installing ${missing[*]}"
log=$(mktemp)
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
policy_replaced=no
cluster_replaced=no

restore() {
    local status=$?
    if [ "$policy_replaced" = yes ]; then
        rm -f "$policy"
        [ ! -e "$policy.partner-program" ] || mv "$policy.partner-program" "$policy"
    fi
    if [ "$cluster_replaced" = yes ] && [ -e "$cluster.partner-program" ]; then
        mv "$cluster.partner-program" "$cluster"
    fi
    if [ "$status" -ne 0 ]; then
        say 'the installation failed; its last lines:'
        tail -n 20 "$log" >&2
    fi
    rm -f "$log"
}
trap restore EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# 101 means "not allowed": no package may start or restart a service while this is in place.
policy_replaced=yes
if [ -e "$policy" ] && [ ! -e "$policy.partner-program" ]; then
    mv "$policy" "$policy.partner-program"
fi
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 \
        --quiet --yes "$@" </dev/null >>"$log" 2>&1
}

apt update || say 'apt-get update reported errors; going on with the lists that are there'
case " ${missing[*]} " in
*' postgresql '*)
    # The package makes and starts a cluster unless this file, which comes with
    # postgresql-common, says otherwise first.
    apt install --no-install-recommends postgresql-common
    cp -p "$cluster" "$cluster.partner-program"
    cluster_replaced=yes
    printf 'create_main_cluster = false\n' >>"$cluster"
    ;;
esac
apt install --no-install-recommends "${missing[@]}"

[ -n "$(postgres_binaries)" ] || die 'Postgres 15 or later is still missing below /usr/lib/postgresql'
[ -x "$rabbitmq_server" ] || die "$rabbitmq_server is still missing"
