#!/usr/bin/env sh
# Fails where one of the files given is larger than 8 MiB.
set -eu
large=$(find "$@" -maxdepth 0 -type f -size +8M)
[ -z "$large" ] || { echo "larger than 8 MiB: $large" >&2; exit 1; }
