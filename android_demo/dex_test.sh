#!/usr/bin/env bash
# dex_test.sh CLASSES_DEX: runs the activity's tests on the classes of an APK, translated back from the dex, in place of
# those that the compiler wrote. The nearest thing to Android's own runtime that there is here.
set -euo pipefail
cd "$(dirname "$0")"
out=target/apk/translated.jar
rm -f "$out"
# Debian's own interpreter has the module.
PATH=/usr/bin:/bin enjarify -f -o "$out" "$1" | tail -1
ours='/(recommending|scn-tflite|tensorflow-lite-classes|kotlin-stdlib)[^/]*(\.jar|/target/classes)$'
rest=$(tr ':' '\n' < app/target/classpath.txt | grep -vE "$ours" | paste -sd:)
run=app/target/dex-test
mkdir -p "$run"
java -Xverify:all --add-opens java.base/java.lang=ALL-UNNAMED \
  -Djava.library.path=build-support/tensorflow-lite-classes/target/aar/jni/x86_64 \
  -Drobolectric.offline=true -Drobolectric.dependency.dir="$PWD/app/target/robolectric" \
  -Ddemo.bionic="$PWD/host/build/x86_64" -Ddemo.picture="$PWD/$run/screen.png" \
  -cp "$out:app/target/test-classes:$rest" org.junit.runner.JUnitCore org.cocorrrec.demo.MainActivityTest
