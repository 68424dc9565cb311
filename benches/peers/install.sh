#!/usr/bin/env bash
# Installs the peers into target/peers: two virtual environments, the modules of node, a release
# build. On Debian 12 it wants python3-venv, node 20 with npm, and cargo. Does again only what is
# not as it should be.
set -euo pipefail
peers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
installed=$(realpath -m -- "$peers/../../target/peers")
mkdir -p "$installed"

for name in faststream celery; do
    [ -x "$installed/$name/bin/pip" ] || python3 -m venv "$installed/$name"
    "$installed/$name/bin/pip" install --quiet --disable-pip-version-check \
        --requirement "$peers/$name/requirements.txt"
done

# Found by NODE_PATH, see run.sh: the sources stay free of what is installed.
mkdir -p "$installed/node"
cp "$peers"/node/{package.json,package-lock.json} "$installed/node"
npm ci --prefix "$installed/node" --silent --no-audit --no-fund

cargo build --release --locked --quiet --jobs "${JOBS:-2}" \
    --manifest-path "$peers/rust/Cargo.toml" --target-dir "$installed/rust"
