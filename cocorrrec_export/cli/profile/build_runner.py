"""``cocorr-profile build-runner``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.errors import UsageError, nearest

EPILOG = """
Examples:

  cocorr-profile build-runner                          both runtimes, for this host and for phones

  cocorr-profile build-runner --abi aarch64 --target executorch

  cocorr-profile build-runner --abi aarch64 --sysroot debian-arm64   with zig, where there is no cross compiler

  cocorr-profile build-runner --out runners --json
"""


def build_runner(
    target: Annotated[
        list[str] | None, typer.Option("--target", help="executorch or tflite. Default: those installed.")
    ] = None,
    abi: Annotated[list[str] | None, typer.Option("--abi", help="aarch64 or x86_64. Default: both.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the packages. Default: this user's cache, where they are found."),
    ] = None,
    sysroot: Annotated[
        Path | None,
        typer.Option("--sysroot", help="Root folder of a Linux of that ABI: zig compiles, its C runtime is taken."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Build the runner that is pushed to phones, from the runtime's own wheel and Debian's (cross) compiler, or zig."""
    if sysroot is not None and (abi is None or len(abi) != 1 or not sysroot.is_dir()):
        raise UsageError("--sysroot is the root folder of a Linux system of one ABI: name that with --abi")
    from cocorrrec_export.profiling.runner.package import (
        ABIS,
        build_package,
        installed,
        package_bytes,
        packages_dir,
    )
    from cocorrrec_export.targets import with_runner

    for given, known, what in ((target, with_runner(), "target"), (abi, ABIS, "abi")):
        for name in given or ():
            if name not in known:
                raise UsageError(f"unknown {what} '{name}' ({nearest(name, known)})")
    built = []
    with console.steps() as progress:
        for name in target or installed():
            for machine in abi or ABIS:
                progress(f"building the {name} runner for {machine}")
                built.append(build_package(name, machine, out or packages_dir(), sysroot=sysroot))
    if json:
        console.print_json([{"path": str(package.path)} | package.manifest for package in built])
        return
    rows = (
        [
            package.name,
            package.manifest["abi"],
            f"{package_bytes(package.path) / 1e6:.1f}",
            package.manifest["compiler"],
        ]
        for package in built
    )
    console.print_table(f"runners in {out or packages_dir()}", ("package", "abi", "MB", "compiler"), rows)
