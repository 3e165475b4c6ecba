"""``bundle android``: a Gradle module with the model and the sources that run it."""

from dataclasses import dataclass
from pathlib import Path

from cocorrrec_export import __version__
from cocorrrec_export.apps.bundle import ITEMS, PAGE, System, after_the_steps, copy_sources, literal, write
from cocorrrec_export.apps.model import AppModel
from cocorrrec_export.artifact.manifest import MANIFEST
from cocorrrec_export.resources import ANDROID_DEMO

ASSETS = "cocorrrec"


@dataclass(frozen=True)
class _Backend:
    """How one target is run on Android."""

    module: str
    """Folder of the sources under android_demo."""
    package: str
    program: str
    """The Kotlin expression that opens it."""
    dependency: str
    suffix: str


_BACKENDS = {
    "tflite": _Backend(
        "scn-tflite", "tflite", "TfliteProgram(file)", "com.google.ai.edge.litert:litert:1.4.0", "tflite"
    ),
    "executorch": _Backend(
        "scn-executorch",
        "executorch",
        "ExecuTorchProgram(file, contract)",
        "org.pytorch:executorch-android:1.5.1",
        "pte",
    ),
}


def _fill(model: AppModel, folder: Path) -> None:
    backend = _BACKENDS[model.artifact.target]
    main = folder / "src" / "main"
    for module, package in (("recommending", "recommending"), (backend.module, backend.package)):
        kotlin = Path("kotlin", "org", "cocorrrec", package)
        copy_sources(ANDROID_DEMO / module / "src" / "main" / kotlin, main / kotlin)
    write(main / "kotlin" / "org" / "cocorrrec" / "model" / "ScnModel.kt", constants(model))
    write(main / "AndroidManifest.xml", _MANIFEST)
    write(folder / "build.gradle.kts", _GRADLE.format(dependency=backend.dependency))
    write(folder / PAGE, page(model, backend))


ANDROID = System("Android", tuple(_BACKENDS), Path("src", "main", "assets", ASSETS), _fill)


def constants(model: AppModel) -> str:
    """``ScnModel.kt``."""
    manifest = model.artifact.manifest
    entry_points = ", ".join(literal(entry.name) for entry in model.artifact.entry_points)
    tensors = ", ".join(literal(spec.name) for spec in model.correction_tensors)
    program = model.artifact.program.name
    return f"""// Written by cocorr-export bundle android. A new model is a new bundle.
package org.cocorrrec.model

/** The exported model that is in this bundle. */
object ScnModel {{
    const val NAME = {literal(manifest["model"]["name"])}

    /** Names the weights: the server must have the same. */
    const val VERSION = {literal(model.version)}
    const val PRECISION = {literal(manifest["precision"])}

    /** Item ids are 1 to VOCAB_SIZE - 1; 0 is padding. */
    const val VOCAB_SIZE = {model.metadata["vocab_size"]}

    /** Clicks that the program reads. */
    const val SEQUENCE_LENGTH = {model.metadata["sequence_length"]}

    /** Candidates of one call. */
    const val CANDIDATES = {model.metadata["candidates"]}
    val ENTRY_POINTS = listOf({entry_points})

    /** What the cloud answers with: kernel, vector or none. */
    const val CORRECTION = {literal(model.correction)}
    val CORRECTION_TENSORS = listOf<String>({tensors})

    const val PROGRAM_FILE = {literal(program)}

    // Assets.
    const val PROGRAM = {literal(f"{ASSETS}/{program}")}
    const val MANIFEST = {literal(f"{ASSETS}/{MANIFEST}")}
    const val ITEMS = {literal(f"{ASSETS}/{ITEMS}")}
}}
"""


_MANIFEST = """<manifest xmlns:android="http://schemas.android.com/apk/res/android">
    <uses-permission android:name="android.permission.INTERNET"/>
</manifest>
"""

_GRADLE = """plugins {{ id("com.android.library") }}

android {{
    namespace = "org.cocorrrec.model"
    compileSdk = 34
    defaultConfig {{ minSdk = 26 }}
    compileOptions {{
        sourceCompatibility = JavaVersion.VERSION_1_8
        targetCompatibility = JavaVersion.VERSION_1_8
    }}
}}

dependencies {{ api("{dependency}") }}
"""


def page(model: AppModel, backend: _Backend) -> str:
    """The page of three steps."""
    manifest = model.artifact.manifest
    return f"""# {manifest["model"]["name"]}, {manifest["precision"]}, in an Android app

Written by `cocorr-export bundle android` {__version__}. The folder is a Gradle module: the model, the sources that run
it, and their one dependency, `{backend.dependency}`. Android 8 (API 26) or later.

1. Copy the folder into your project as `cocorrrec/`, and name it in `settings.gradle.kts`:

   ```kotlin
   include(":cocorrrec")
   ```

2. Depend on it in `app/build.gradle.kts`, and keep the program uncompressed:

   ```kotlin
   android {{ androidResources {{ noCompress += "{backend.suffix}" }} }}
   dependencies {{ implementation(project(":cocorrrec")) }}
   ```

3. Load it and rank, on a thread of your own; the program takes one thread at a time:

   ```kotlin
   import org.cocorrrec.{backend.package}.{backend.program.split("(")[0]}
   import org.cocorrrec.model.ScnModel
   import org.cocorrrec.recommending.*
   import org.json.JSONObject

   fun text(name: String) = context.assets.open(name).use {{ String(it.readBytes()) }}

   val manifest = text(ScnModel.MANIFEST)
   val contract = Contract.parse(manifest, ScnModel.VOCAB_SIZE)
   val items = Items.parse(text(ScnModel.ITEMS), JSONObject(manifest).getJSONObject("model").getString("sha256"))
   // Checked by size and SHA-256 before the runtime sees it.
   val file = ProgramFile.install(ScnModel.PROGRAM_FILE, manifest, context.noBackupFilesDir) {{
       context.assets.open(ScnModel.PROGRAM)
   }}
   val scn = Scn({backend.program}, contract)

   val history = History(items).apply {{ clickedItemIds.forEach(::add) }}  // your own ids; unknown ones are left out
   val candidates = candidateItemIds.mapNotNull(items::id).toIntArray()
   val scores = scn.rank(history.ids(contract.sequenceLength), candidates)
   val best = best(10, scores).map {{ items.key(candidates[it]) }}
   ```

{after_the_steps(model, ANDROID.model_folder)}"""
