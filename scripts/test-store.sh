#!/usr/bin/env bash
# usage: scripts/test-store.sh NAME DIRECTORY     prints the URL of an empty store for a test
#
# A prefix of its own in the bucket of ELIDE_TEST_S3, where scripts/moto.sh or scripts/rgw.sh has started one; else DIRECTORY/store.
set -euo pipefail
if [ -z "${ELIDE_TEST_S3-}" ]; then
  echo "file://$2/store"
else
  place=${ELIDE_TEST_S3%%\?*} parameters=${ELIDE_TEST_S3#*\?}
  echo "$place/$1-$$-$RANDOM?$parameters"
fi
