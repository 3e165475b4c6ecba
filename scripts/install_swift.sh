#!/usr/bin/env bash
# Swift 6 of Debian trixie, in a root of its own (3.4 GB), for `make test-ios` on Linux. Nothing outside of that folder
# changes but for debootstrap itself. scripts/swift.sh enters it. A machine that has Swift 6 needs none of this.
set -euo pipefail
root="${COCORRREC_SWIFT_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/cocorrrec-export/swift}"
[ ! -f "$root/.complete" ] || exit 0
if [ "$(id -u)" != 0 ]; then
  echo "install_swift.sh makes a root of its own and has to be root: sudo $0" >&2
  exit 1
fi
# The mirror that this machine's apt uses.
mirror=$(find /etc/apt -name '*.list' -exec cat {} + -o -name '*.sources' -exec cat {} + |
  sed -nE 's#^(URIs:|deb(-src)?( \[[^]]*\])?) +([^ ]+/debian)/?( .*)?$#\4#p' | head -1)
if [ -z "$mirror" ]; then
  echo "install_swift.sh takes Swift from Debian trixie, and this machine's apt names no Debian mirror" >&2
  exit 1
fi
if ! command -v debootstrap >/dev/null; then
  apt-get update --quiet
  DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends debootstrap
fi
rm -rf "$root"
mkdir -p "$(dirname "$root")"
debootstrap --variant=minbase --include=ca-certificates trixie "$root" "$mirror"
for settings in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf; do
  [ ! -f "$settings" ] || cp "$settings" "$root/etc/apt/apt.conf.d/"
done
cp /etc/resolv.conf "$root/etc/resolv.conf"
# Without a C library's start files `swift test` does not link.
unshare --mount --propagation private sh -c '
  mount -t proc proc "$1/proc"
  chroot "$1" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends \
    swiftlang g++ libc6-dev git
  chroot "$1" apt-get clean' sh "$root"
touch "$root/.complete"
