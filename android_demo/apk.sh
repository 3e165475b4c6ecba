#!/usr/bin/env bash
# apk.sh ABI: target/apk/cocorrrec-ABI.apk, signed with a debug key, and its checks. After `mvn verify`.
set -euo pipefail
cd "$(dirname "$0")"
abi=$1 out=target/apk/$1 apk=target/apk/cocorrrec-$1.apk
aar=build-support/tensorflow-lite-classes/target/aar
jmods=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")/jmods
jar_of() { tr ':' '\n' < app/target/classpath.txt | grep "/$1-[^/]*\.jar$" | head -1; }
android=$(jar_of android-all)
stdlib=$(jar_of kotlin-stdlib)
fail() { echo "$apk: $*" >&2; exit 1; }

rm -rf "$out"
mkdir -p "$out/root/lib/$abi"
[ -d target/tools ] || mvn --batch-mode --quiet -f tools.xml dependency:copy-dependencies -DoutputDirectory="$PWD/target/tools"
java -cp 'target/tools/*' proguard.ProGuard @keep.pro -include "$aar/proguard.txt" \
  -injars "app/target/app-0.1.jar:recommending/target/recommending-0.1.jar:scn-tflite/target/scn-tflite-0.1.jar:build-support/tensorflow-lite-classes/target/tensorflow-lite-classes-0.1.jar" \
  -injars "$stdlib(!META-INF/**)" -outjars "$out/classes.jar" -libraryjars "$android" \
  -libraryjars "$jmods/java.base.jmod(!**.jar;!module-info.class)" \
  -libraryjars "$jmods/java.logging.jmod(!**.jar;!module-info.class)" > "$out/proguard.log" 2>&1 ||
  { cat "$out/proguard.log" >&2; exit 1; }
# At 24, two below the real minimum, dx refuses invokedynamic by the name of the method.
java -cp 'target/tools/*' com.android.dx.command.Main --dex --min-sdk-version=24 --output="$out/root/classes.dex" "$out/classes.jar"
cp "$out/root/classes.dex" "$out/classes.dex"
cp "$aar/jni/$abi/"*.so "$out/root/lib/$abi/"
cp app/target/resources.apk "$out/unaligned.apk"
find "$out/root" -exec touch -d 1980-01-02 {} +
(cd "$out/root" && find classes.dex lib -type f | LC_ALL=C sort | TZ=UTC zip -q -X -0 ../unaligned.apk -@)
zipalign -f -p 4 "$out/unaligned.apk" "$out/aligned.apk"
if [ ! -f target/debug.keystore ]; then
  keytool -genkeypair -keystore target/debug.keystore -storepass android -alias debug -dname CN=debug -keyalg RSA -validity 10000 2>/dev/null
fi
apksigner sign --ks target/debug.keystore --ks-pass pass:android --out "$apk" "$out/aligned.apk"

signature=$(apksigner verify --min-sdk-version 26 -v "$apk")
grep -q "v2 scheme.*true" <<<"$signature" || fail "is not signed"
zipalign -c -p 4 "$apk" || fail "is not aligned"
dexdump -c "$out/classes.dex" >/dev/null || fail "has a dex with another checksum"
dexdump -d "$out/classes.dex" > "$out/dex.txt"
if grep -m1 -E 'invoke-(custom|polymorphic)' "$out/dex.txt"; then fail "has an instruction that Android 8 does not have"; fi
badging=$(aapt2 dump badging "$apk" 2>/dev/null)
for line in "package: name='org.cocorrrec.demo'" "sdkVersion:'26'" "targetSdkVersion:'34'" \
  "launchable-activity: name='org.cocorrrec.demo.MainActivity'" "native-code: '$abi'" "android.permission.INTERNET"; do
  grep -qF -- "$line" <<<"$badging" || fail "its badging does not have $line"
done
names=$(unzip -Z1 "$apk")
for name in classes.dex "lib/$abi/libtensorflowlite_jni.so" assets/cocorrrec/scn.tflite assets/cocorrrec/manifest.json assets/cocorrrec/items.json; do
  grep -qxF "$name" <<<"$names" || fail "does not hold $name"
done
unzip -p "$apk" assets/cocorrrec/scn.tflite | cmp - target/demo/bundle/src/main/assets/cocorrrec/scn.tflite || fail "holds another model"
methods=$(grep -c "^    #.*: (in " "$out/dex.txt" || true)
echo "$apk: $(stat -c %s "$apk") bytes, classes.dex $(stat -c %s "$out/classes.dex"), $methods methods"
