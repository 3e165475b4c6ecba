#!/usr/bin/env bash
# What android_demo/ is built and tested with, from Debian: JDK and Maven, the resource compiler, the packers and
# signers of APKs, two readers of their classes, and qemu with a cross compiler for the library of phones.
# Maven fetches the rest. Nothing is installed again where it is there.
set -euo pipefail
packages="openjdk-17-jdk-headless maven g++ make zip unzip aapt zipalign apksigner dexdump enjarify qemu-user-static
  g++-aarch64-linux-gnu binutils-aarch64-linux-gnu"
missing=""
for package in $packages; do
  dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
run() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
run apt-get update --quiet
# shellcheck disable=SC2086
run env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends $missing
