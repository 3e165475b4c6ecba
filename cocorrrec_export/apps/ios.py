"""``bundle ios``: a Swift package with the model and the sources that run it."""

from dataclasses import dataclass
from pathlib import Path

from cocorrrec_export import __version__
from cocorrrec_export.apps.bundle import ITEMS, PAGE, System, after_the_steps, copy_sources, literal, write
from cocorrrec_export.apps.model import AppModel
from cocorrrec_export.artifact.manifest import MANIFEST
from cocorrrec_export.resources import IOS_DEMO

_EXECUTORCH = ("executorch", "backend_xnnpack", "kernels_optimized", "kernels_quantized")


@dataclass(frozen=True)
class _Backend:
    """How one target is run on iOS."""

    module: str
    program: str
    """The Swift expression that opens it."""
    resource: str
    """The rule of the program in ``Package.swift``."""
    packages: str
    products: tuple[str, ...]
    linking: str


_BACKENDS = {
    "executorch": _Backend(
        "ScnExecuTorch",
        "ExecuTorchProgram(program, contract)",
        "copy",
        '.package(url: "https://github.com/pytorch/executorch.git", branch: "swiftpm-1.4.1")',
        _EXECUTORCH,
        "Add `-all_load` to *Other Linker Flags* of the app's target: kernels and backends only register themselves.",
    ),
    "coreml": _Backend(
        "ScnCoreML",
        "CoreMLProgram(program, contract)",
        "process",
        "",
        (),
        "Xcode compiles the `.mlpackage`; iOS 18 or later, which has functions of one model.",
    ),
}


def _fill(model: AppModel, folder: Path) -> None:
    backend = _BACKENDS[model.artifact.target]
    for module in ("Recommending", "CloudClient", backend.module):
        copy_sources(IOS_DEMO / "Sources" / module, folder / "Sources" / module)
    write(folder / "Sources" / "ScnModel" / "ScnModel.swift", constants(model))
    write(folder / "Package.swift", _package(model, backend))
    write(folder / PAGE, page(model, backend))


IOS = System("iOS", tuple(_BACKENDS), Path("Sources", "ScnModel", "Resources"), _fill)


def _compiled(program: str) -> str:
    """What Xcode makes of a program."""
    return program.replace(".mlpackage", ".mlmodelc")


def constants(model: AppModel) -> str:
    """``ScnModel.swift``."""
    manifest = model.artifact.manifest
    entry_points = ", ".join(literal(entry.name) for entry in model.artifact.entry_points)
    tensors = ", ".join(literal(spec.name) for spec in model.correction_tensors)
    return f"""// Written by cocorr-export bundle ios. A new model is a new bundle.
import Foundation

/// The exported model that is in this package.
public enum ScnModel {{
    public static let name = {literal(manifest["model"]["name"])}
    /// Names the weights: the server must have the same.
    public static let version = {literal(model.version)}
    public static let precision = {literal(manifest["precision"])}
    /// Item ids are 1 to vocabSize - 1; 0 is padding.
    public static let vocabSize = {model.metadata["vocab_size"]}
    /// Clicks that the program reads.
    public static let sequenceLength = {model.metadata["sequence_length"]}
    /// Candidates of one call.
    public static let candidates = {model.metadata["candidates"]}
    public static let entryPoints = [{entry_points}]
    /// What the cloud answers with: kernel, vector or none.
    public static let correction = {literal(model.correction)}
    public static let correctionTensors: [String] = [{tensors}]

    public static var program: URL {{ file({literal(_compiled(model.artifact.program.name))}) }}
    public static var manifest: URL {{ file({literal(MANIFEST)}) }}
    public static var items: URL {{ file({literal(ITEMS)}) }}

    private static func file(_ name: String) -> URL {{ Bundle.module.bundleURL.appendingPathComponent(name) }}
}}
"""


def _package(model: AppModel, backend: _Backend) -> str:
    program = model.artifact.program.name
    products = "".join(f', .product(name: "{name}", package: "executorch")' for name in backend.products)
    return f"""// swift-tools-version:6.0
import PackageDescription

let package = Package(
    name: "CoCorrRec",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: [
        .library(name: "CoCorrRec", targets: ["Recommending", "CloudClient", "{backend.module}", "ScnModel"])
    ],
    dependencies: [{backend.packages}],
    targets: [
        .target(name: "Recommending"),
        .target(name: "CloudClient", dependencies: ["Recommending"]),
        .target(name: "{backend.module}", dependencies: ["Recommending"{products}]),
        .target(
            name: "ScnModel",
            resources: [
                .{backend.resource}("Resources/{program}"), .copy("Resources/{MANIFEST}"), .copy("Resources/{ITEMS}"),
            ]),
    ]
)
"""


def page(model: AppModel, backend: _Backend) -> str:
    """The page of three steps."""
    manifest = model.artifact.manifest
    return f"""# {manifest["model"]["name"]}, {manifest["precision"]}, in an iOS app

Written by `cocorr-export bundle ios` {__version__}. The folder is a Swift package: the model, and the sources that run
it. iOS 18 or later, Swift 6.

1. Copy the folder next to your project, and in Xcode *Add Package Dependencies… > Add Local…*; add the library
   `CoCorrRec` to your app's target.

2. {backend.linking}

3. Load it and rank, off the main thread:

   ```swift
   import {backend.module}
   import Recommending
   import ScnModel

   let manifest = try Data(contentsOf: ScnModel.manifest)
   let contract = try Contract(manifest: manifest, vocabSize: ScnModel.vocabSize)
   let modelSha256 = try JSONDecoder().decode(Manifest.self, from: manifest).model.sha256
   let items = try Items(json: Data(contentsOf: ScnModel.items), modelSha256: modelSha256)
   let program = ScnModel.program
   let scn = Scn(try {backend.program}, contract)

   var history = History(items)
   for key in clickedItemIds {{ history.append(key) }}  // your own ids; unknown ones are left out
   let candidates = candidateItemIds.compactMap(items.id)
   let scores = try scn.rank(ids: history.ids(contract.sequenceLength), candidates: candidates)
   let best = best(10, of: scores).map {{ items.key(candidates[$0]) }}
   ```

{after_the_steps(model, IOS.model_folder)}"""
