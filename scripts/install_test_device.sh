#!/bin/sh
# What the tests of the profiler need from Debian: the adb client, compilers for both processors, qemu for programs of
# aarch64, and a phone's shell and tools. adbd itself is fetched by the tests (tests/device/adbd.py), not installed.
set -e
packages="adb g++ g++-aarch64-linux-gnu iproute2 mksh qemu-user-static toybox util-linux"
for package in $packages; do
    dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
apt-get update -q
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
