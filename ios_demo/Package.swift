// swift-tools-version:6.0
import PackageDescription

#if os(Linux)
// For tests on a computer: the program runs over the libraries of the executorch wheel, and ExecuTorch is a stand-in of
// the real module's interface, which holds ScnExecuTorch to it and runs nothing.
let hostTargets: [Target] = [
    .target(name: "CScnHost", path: "HostSupport/CScnHost"),
    .target(name: "ScnHost", dependencies: ["CScnHost", "Recommending"], path: "HostSupport/ScnHost"),
    .target(name: "ExecuTorch", path: "HostSupport/ExecuTorch"),
    .testTarget(name: "ScnHostTests", dependencies: ["ScnHost", "Recommending", "CloudClient"]),
]
let executorch: [Target.Dependency] = ["ExecuTorch"]
let packages: [Package.Dependency] = []
#else
let hostTargets: [Target] = []
let executorch: [Target.Dependency] = ["executorch", "backend_xnnpack", "kernels_optimized", "kernels_quantized"].map {
    .product(name: $0, package: "executorch")
}
let packages: [Package.Dependency] = [
    .package(url: "https://github.com/pytorch/executorch.git", branch: "swiftpm-1.4.1")
]
#endif

let package = Package(
    name: "CoCorrRec",
    platforms: [.iOS(.v18), .macOS(.v15)],
    products: [
        .library(name: "Recommending", targets: ["Recommending", "CloudClient"]),
        .library(name: "ScnExecuTorch", targets: ["ScnExecuTorch"]),
        .library(name: "ScnCoreML", targets: ["ScnCoreML"]),
    ],
    dependencies: packages,
    targets: [
        .target(name: "Recommending"),
        .target(name: "CloudClient", dependencies: ["Recommending"]),
        .target(name: "ScnExecuTorch", dependencies: ["Recommending"] + executorch),
        .target(name: "ScnCoreML", dependencies: ["Recommending"]),
        .testTarget(name: "RecommendingTests", dependencies: ["Recommending"]),
        .testTarget(name: "CloudClientTests", dependencies: ["CloudClient", "Recommending"]),
    ] + hostTargets
)
