#!/usr/bin/env bash
# demo.sh test    everything that a computer can test of the demo, with a real server
# demo.sh apk     the APKs, checked; then the activity's tests once more on the classes that are in the APK
#
# Needs scripts/install_android_tools.sh, and .venv as `make setup` makes it.
set -euo pipefail
cd "$(dirname "$0")"
bin=../.venv/bin
demo=target/demo
aar=build-support/tensorflow-lite-classes/target/aar
maven() { mvn --batch-mode --quiet "$@"; }

need() {
  local absent=()
  for tool in mvn javac g++ aapt2 zipalign apksigner dexdump enjarify zip unzip qemu-aarch64-static aarch64-linux-gnu-gcc; do
    command -v "$tool" >/dev/null || absent+=("$tool")
  done
  if [ ${#absent[@]} -gt 0 ]; then
    echo "android_demo needs ${absent[*]}: bash scripts/install_android_tools.sh" >&2
    exit 1
  fi
}

export_scn() { "$bin/cocorr-export" scn --target "$1" --precision "$2" --out "$demo/exports" >/dev/null; }

# The exports and the bundle, again where anything that they are made of is newer.
exports() {
  if [ -f "$demo/made" ] && [ -z "$(find ../cocorrrec_export ../models ../export_recipes */src/main -newer "$demo/made" -type f -name '[!.]*' ! -name '*.pyc' -print -quit)" ]; then
    return
  fi
  rm -rf "$demo"
  export_scn tflite int8
  export_scn tflite int4
  export_scn executorch int8
  "$bin/cocorr-export" gcn --target onnx --out "$demo/exports" >/dev/null
  "$bin/cocorr-export" bundle android "$demo/exports/scn-tflite-int8" --out "$demo/bundle" >/dev/null
  touch "$demo/made"
}

prepare() {
  need
  exports
  [ -d "$aar" ] || maven --projects build-support/tensorflow-lite-classes verify
  make --silent -C ../mobile_host jni
  make --silent -C host
  make --silent -C host ABI=aarch64
}

with_servers() { "$bin/python" ../mobile_host/with_servers.py "$demo/exports/gcn-onnx-fp32" "$@"; }

case "${1:-}" in
  test)
    prepare
    # Without --quiet: the figures of the tests are to be read.
    with_servers mvn --batch-mode --no-transfer-progress verify
    "$bin/python" ../mobile_host/rank_p50.py "$demo/exports/scn-tflite-int8" "$demo/exports/scn-executorch-int8"
    for precision in int8 int4; do
      "$bin/python" host/check_vectors.py "$demo/exports/scn-tflite-$precision" \
        qemu-aarch64-static -cpu cortex-a76 -L /usr/aarch64-linux-gnu host/build/aarch64/run_tflite host/build/aarch64 \
        "$aar/jni/arm64-v8a/libtensorflowlite_jni.so"
    done
    ;;
  apk)
    prepare
    maven -DskipTests verify
    ./apk.sh arm64-v8a armeabi-v7a x86_64
    with_servers ./dex_test.sh target/apk/classes.dex
    ;;
  *)
    sed -n '2,5p' "$0" >&2
    exit 2
    ;;
esac
