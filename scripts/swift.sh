#!/usr/bin/env bash
# swift.sh ARGUMENTS: `swift ARGUMENTS` in the current folder, by this machine's own Swift, or by the one that
# scripts/install_swift.sh made a root for. In there are this checkout and the interpreter's packages, at their own paths.
set -euo pipefail
root="${COCORRREC_SWIFT_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/cocorrrec-export/swift}"
if command -v swift >/dev/null && swift --version 2>/dev/null | grep -qE 'Swift version ([6-9]|[1-9][0-9])'; then
  exec swift "$@"
fi
if [ ! -f "$root/.complete" ]; then
  echo "ios_demo needs Swift 6: bash scripts/install_swift.sh" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "the root of install_swift.sh is entered as root: sudo $0" >&2
  exit 1
fi
checkout=$(cd "$(dirname "$0")/.." && pwd)
export checkout root
# Mounts and processes of the namespace end with it.
exec unshare --mount --pid --fork --propagation private bash -c '
  set -euo pipefail
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
  mkdir -p "$root$checkout"
  mount --bind "$checkout" "$root$checkout"
  exec chroot "$root" env HOME=/root PATH=/usr/bin:/bin bash -c "cd \"\$1\" && shift && exec swift \"\$@\"" sh "$@"
' sh "$PWD" "$@"
