#!/usr/bin/env bash
# resources.sh ANDROID_JAR OUT ASSETS: compiles the app's resources with aapt2, and links them with the assets into
# OUT/resources.apk and OUT/gen/.../R.java. The package and the versions are those of app/build.gradle.kts.
set -euo pipefail
android=$1 out=$2 assets=$3
cd "$(dirname "$0")"
mkdir -p "$out/gen"
sed 's/<manifest /<manifest package="org.cocorrrec.demo" /' app/src/main/AndroidManifest.xml > "$out/AndroidManifest.xml"
aapt2 compile --dir app/src/main/res -o "$out/res.zip"
# Stored, not compressed, are the names that end in .tflite: a program is read faster, and an APK may be mapped.
aapt2 link -I "$android" --manifest "$out/AndroidManifest.xml" -A "$assets" -0 .tflite \
  --min-sdk-version 26 --target-sdk-version 34 --version-code 1 --version-name 0.1 \
  --java "$out/gen" -o "$out/resources.apk" "$out/res.zip" 2> >(grep -v LoadedArsc >&2 || true)
