#!/usr/bin/env bash
# run.sh NAME
#
# Runs a peer in the foreground until SIGTERM, on DATABASE_URL and AMQP_URL. PEER_CONCURRENCY,
# PEER_PREFETCH, PEER_PROCESSES and PEER_QUEUE override its defaults: README.md says what they mean.
set -euo pipefail
peers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
installed=$peers/../../target/peers
name=${1:?usage: run.sh celery|faststream|node|rust}
: "${DATABASE_URL:?}" "${AMQP_URL:?}"
export PYTHONPATH=$peers/python PYTHONPYCACHEPREFIX=$installed/pycache

case $name in
faststream)
    cd "$peers/faststream"
    exec "$installed/faststream/bin/faststream" run app:app --workers "${PEER_PROCESSES:-1}"
    ;;
celery)
    cd "$peers/celery"
    exec "$installed/celery/bin/celery" --app app --quiet worker --loglevel WARNING \
        --without-gossip --without-mingle --without-heartbeat
    ;;
node)
    export NODE_PATH=$installed/node/node_modules
    exec node "$peers/node/app.js"
    ;;
rust) exec "$installed/rust/release/partner-program-peer" ;;
*)
    echo "run.sh: there is no peer $name" >&2
    exit 2
    ;;
esac
