#!/usr/bin/env bash
# lane.sh NAME SCRIPT [ARGUMENT...]: runs one lane of the Makefile. A lane that does not exist yet says so and fails with 2,
# so that nobody takes it for one that passed.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
script=$2
shift 2
if [ ! -f "$script" ]; then
  echo "make $name: this lane is not built yet ($script is missing)" >&2
  exit 2
fi
exec "$script" "$@"
