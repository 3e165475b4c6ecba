#!/usr/bin/env bash
# ip and tc, for the tests of shaped links (cocorr-profile link), from Debian's or Ubuntu's packages.
set -euo pipefail
command -v ip >/dev/null && command -v tc >/dev/null && exit 0
run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
run apt-get update --quiet
run apt-get install --yes --quiet iproute2
