#!/usr/bin/env bash
# rabbitmq-4.sh [SUITE]
#
# Unpacks RabbitMQ 4.0 (Debian 13's, with its Erlang) into a folder of its own, once, and prints the
# path of its server: half a minute, 180 MB, in ~/.cache/partner-program/rabbitmq-4. The machine's
# own packages stay as they are. `make test RABBITMQ=4` runs the tests on it. Needs root, for it
# runs behind chroot. Another SUITE of Debian has another version, whose index may have expired:
# forky had 4.3.6.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly suite=${1:-trixie}
readonly packages=rabbitmq-server,base-files,dash,coreutils,sed,grep,mawk,hostname,libc-bin
case $suite in
trixie) name=rabbitmq-4 ;;
*) name=rabbitmq-4-$suite ;;
esac
readonly folder="${XDG_CACHE_HOME:-$HOME/.cache}/partner-program/$name"
readonly unpack_seconds=300

# Where this machine's own Debian packages come from.
mirror() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
        awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }'
}

# The mounts belong to the process and its children alone, and end with them. Every step is an
# exec, so that the id of the caller's process is the server's.
write_wrapper() {
    cat >"$1" <<-'WRAPPER'
		#!/bin/sh
		exec unshare --mount --propagation private /bin/sh -euc '
		    root=$1 program=$2
		    shift 2
		    for place in /dev /proc /var/tmp /etc/hosts; do
		        mount --rbind "$place" "$root$place"
		    done
		    exec chroot "$root" "/usr/lib/rabbitmq/bin/$program" "$@"
		' "$0" "$(dirname "$0")/root" "$(basename "$0")" "$@"
	WRAPPER
    chmod 755 "$1"
}

unpack() {
    local site
    RABBITMQ=4 "$scripts/install.sh"
    site=$(mirror)
    [ -n "$site" ] || die 'the source of Debian packages is unknown: run apt-get update'
    say "unpacking RabbitMQ 4 (once, half a minute)"
    rm -rf "$folder.new"
    mkdir -p "$folder.new"
    timeout "$unpack_seconds" mmdebstrap --quiet --variant=extract --include="$packages" \
        --aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$folder.new/root" "$site" >&2 || die 'RabbitMQ 4 could not be unpacked'
    # No maintainer script has run: this link and this file are what the server misses.
    ln -sf mawk "$folder.new/root/usr/bin/awk"
    touch "$folder.new/root/etc/hosts"
    write_wrapper "$folder.new/rabbitmq-server"
    write_wrapper "$folder.new/rabbitmqctl"
    rm -rf "$folder"
    mv "$folder.new" "$folder"
}

is_root || die 'RabbitMQ 4 needs root: it runs behind chroot'
mkdir -p "$(dirname "$folder")"
# Two callers at once unpack it once.
exec 9>"$folder.lock"
flock 9
[ -x "$folder/rabbitmq-server" ] || unpack 9>&-
printf '%s\n' "$folder/rabbitmq-server"
