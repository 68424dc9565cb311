#!/usr/bin/env bash
# Installs what is missing, builds, and shows the system at work on private servers that vanish
# afterwards. KEEP=1 leaves them running; PROFILE=release shows the release, which takes longer to
# build.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$repository"

"$scripts/install.sh"
say 'building (some minutes the first time)'
profile=${PROFILE:-dev}
SQLX_OFFLINE=true cargo build --profile "$profile" --locked
[ "$profile" != dev ] || profile=debug
"$scripts/with-servers.sh" "${CARGO_TARGET_DIR:-target}/$profile/partner-program" demo "$@"
