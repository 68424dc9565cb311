#!/usr/bin/env bash
# Installs what is missing, builds, and shows the system at work on private servers that vanish
# afterwards. KEEP=1 leaves them running.
set -euo pipefail
# shellcheck source=deploy/local/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

"$local_scripts/install.sh"
say 'building (some minutes the first time)'
SQLX_OFFLINE=true cargo build --release --locked --quiet
"$local_scripts/with-servers.sh" "${CARGO_TARGET_DIR:-target}/release/partner-program" demo "$@"
