#!/usr/bin/env bash
# make soak: the simulator for ELIDE_SOAK_MINUTES minutes (10). A finding prints its seed, and how to run it again.
set -euo pipefail
cd "$(dirname "$0")/.."
export ELIDE_SOAK_MINUTES=${ELIDE_SOAK_MINUTES:-10}
SWIFT_BACKTRACE=enable=no swift test -c "${CONFIGURATION:-release}" --filter SoakTests
