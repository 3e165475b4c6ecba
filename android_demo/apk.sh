#!/usr/bin/env bash
# apk.sh ABI...: target/apk/cocorrrec-ABI.apk, signed with a debug key, and its checks. After `mvn verify`.
set -euo pipefail
cd "$(dirname "$0")"
out=target/apk
reader=../.venv-androguard/bin/python
aar=build-support/tensorflow-lite-classes/target/aar
jmods=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")/jmods
jar_of() { tr ':' '\n' < app/target/classpath.txt | grep "/$1-[^/]*\.jar$" | head -1; }
fail() { echo "$*" >&2; exit 1; }

# classes.dex of the app and of what it uses: the same for every ABI.
dex() {
  local android stdlib
  android=$(jar_of android-all)
  stdlib=$(jar_of kotlin-stdlib)
  [ -d target/tools ] || mvn --batch-mode --quiet -f tools.xml dependency:copy-dependencies -DoutputDirectory="$PWD/target/tools"
  java -cp 'target/tools/*' proguard.ProGuard @keep.pro -include "$aar/proguard.txt" \
    -injars "app/target/app-0.1.jar:recommending/target/recommending-0.1.jar:scn-tflite/target/scn-tflite-0.1.jar:build-support/tensorflow-lite-classes/target/tensorflow-lite-classes-0.1.jar" \
    -injars "$stdlib(!META-INF/**)" -outjars "$out/classes.jar" -libraryjars "$android" \
    -libraryjars "$jmods/java.base.jmod(!**.jar;!module-info.class)" \
    -libraryjars "$jmods/java.logging.jmod(!**.jar;!module-info.class)" > "$out/proguard.log" 2>&1 ||
    { cat "$out/proguard.log" >&2; exit 1; }
  # At 24, two below the real minimum, dx refuses invokedynamic by the name of the method.
  java -cp 'target/tools/*' com.android.dx.command.Main --dex --min-sdk-version=24 --output="$out/classes.dex" "$out/classes.jar"
  dexdump -c "$out/classes.dex" >/dev/null || fail "classes.dex has another checksum"
  dexdump -d "$out/classes.dex" > "$out/dex.txt"
  if grep -m1 -E 'invoke-(custom|polymorphic)' "$out/dex.txt"; then fail "classes.dex has an instruction that Android 8 does not have"; fi
  "$reader" read_dex.py "$out/classes.dex" "$out/dex.txt"
  echo "classes.dex: $(stat -c %s "$out/classes.dex") bytes, $(grep -c 'invoke-' "$out/dex.txt") calls, none of them dynamic"
}

pack() {
  local abi=$1 root=$out/$1
  mkdir -p "$root/lib/$abi"
  cp "$out/classes.dex" "$root/"
  cp "$aar/jni/$abi/"*.so "$root/lib/$abi/"
  cp app/target/resources.apk "$root.unaligned"
  find "$root" -exec touch -d 1980-01-02 {} +
  (cd "$root" && find classes.dex lib -type f | LC_ALL=C sort | TZ=UTC zip -q -X -0 "../$abi.unaligned" -@)
  zipalign -f -p 4 "$root.unaligned" "$root.aligned"
  [ -f target/debug.keystore ] || keytool -genkeypair -keystore target/debug.keystore -storepass android -alias debug \
    -dname CN=debug -keyalg RSA -validity 10000 >/dev/null 2>&1
  apksigner sign --ks target/debug.keystore --ks-pass pass:android --out "$out/cocorrrec-$abi.apk" "$root.aligned"
  rm -rf "$root" "$root.unaligned" "$root.aligned"
}

check() {
  local abi=$1 apk=$out/cocorrrec-$1.apk badging names line name
  apksigner verify --min-sdk-version 26 -v "$apk" | grep "v2 scheme.*true" >/dev/null || fail "$apk is not signed"
  zipalign -c -p 4 "$apk" || fail "$apk is not aligned"
  badging=$(aapt2 dump badging "$apk" 2>/dev/null)
  for line in "package: name='org.cocorrrec.demo'" "sdkVersion:'26'" "targetSdkVersion:'34'" \
    "launchable-activity: name='org.cocorrrec.demo.MainActivity'" "native-code: '$abi'" "android.permission.INTERNET"; do
    grep -qF -- "$line" <<<"$badging" || fail "the badging of $apk does not have $line"
  done
  names=$(unzip -Z1 "$apk")
  for name in classes.dex "lib/$abi/libtensorflowlite_jni.so" assets/cocorrrec/{scn.tflite,manifest.json,items.json}; do
    grep -qxF "$name" <<<"$names" || fail "$apk does not hold $name"
  done
  unzip -p "$apk" assets/cocorrrec/scn.tflite | cmp - target/demo/bundle/src/main/assets/cocorrrec/scn.tflite ||
    fail "$apk holds another model than the bundle"
  echo "$apk: $(stat -c %s "$apk") bytes"
}

[ -x "$reader" ] || fail "the second reader of classes.dex is missing: make android installs it"
rm -rf "$out"
mkdir -p "$out"
dex
for abi in "$@"; do
  pack "$abi"
  check "$abi"
done
