#!/usr/bin/env bash
# Tests the package on Linux: the real program over mobile_host, a real server, and the servers of the scenarios.
# Needs scripts/install_swift.sh, and .venv as `make setup` makes it.
set -euo pipefail
cd "$(dirname "$0")"
bin=../.venv/bin
demo=.build/demo
if [ ! -f "$demo/made" ] || [ -n "$(find ../cocorrrec_export ../models ../export_recipes -newer "$demo/made" -type f -name '*.[pts]*' ! -name '*.pyc' -print -quit)" ]; then
  rm -rf "$demo"
  "$bin/cocorr-export" scn --target executorch --precision int8 --out "$demo" >/dev/null
  "$bin/cocorr-export" gcn --target onnx --out "$demo" >/dev/null
  touch "$demo/made"
fi
make --silent -C ../mobile_host shim
library=$(cd ../mobile_host/build && pwd)
export COCORR_SCN="$PWD/$demo/scn-executorch-int8"
"$bin/python" ../mobile_host/with_servers.py "$demo/gcn-onnx-fp32" \
  ../scripts/swift.sh test -Xlinker "-L$library" -Xlinker -rpath -Xlinker "$library"
"$bin/python" ../mobile_host/rank_p50.py "$COCORR_SCN"
