"""Put finished runner packages into a wheel of their own: ``make runner-wheel``, which the extra ``android`` installs.

The wheel holds programs for phones, not for the machine that installs it, so it is for any platform. It carries the
license texts and sources that are inside each package.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cocorrrec_export import __version__
from cocorrrec_export.profiling.runner.package import ABIS, WHEEL_MODULE, build_package, installed

PROJECT = """[build-system]
requires = ["hatchling>=1.26,<2"]
build-backend = "hatchling.build"

[project]
name = "cocorrrec-runner"
version = "{version}"
description = "Runners of cocorrrec-export for Android phones and Linux, with the C runtime that they need"
readme = "README.md"
requires-python = ">=3.11"
license = "{license}"
license-files = ["{module}/*/LICENSE-*.txt", "{module}/*/NOTICE.txt"]

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""
LICENSE = "Apache-2.0 AND BSD-3-Clause AND LGPL-2.1-or-later AND GPL-3.0-or-later WITH GCC-exception-3.1"
README = """# cocorrrec-runner

Programs that `cocorr-profile` copies to a phone. Nothing in here is started on the machine that installs it, except
on Linux with `cocorr-profile --host`. Licenses, sources and where the rest of the sources are:
`NOTICE.txt` in each folder.

Packages: {names}
"""


def main() -> None:
    """Build every package, then the wheel; print its path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dist-runner"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        module = project / WHEEL_MODULE
        packages = [build_package(target, abi, module) for target in installed() for abi in ABIS]
        if any(package.manifest["compiler"].startswith("zig ") for package in packages):
            # Their licenses are others, and may not be all there.
            sys.exit("the wheel is built with Debian's compilers: apt install g++ g++-aarch64-linux-gnu")
        (module / "__init__.py").write_text('"""Runner packages of cocorrrec-export."""\n', encoding="utf-8")
        names = ", ".join(package.name for package in packages)
        (project / "README.md").write_text(README.format(names=names), encoding="utf-8")
        (project / "pyproject.toml").write_text(
            PROJECT.format(version=__version__, module=WHEEL_MODULE, license=LICENSE), encoding="utf-8"
        )
        built = project / "built"
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(built), str(project)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        options.out.mkdir(parents=True, exist_ok=True)
        for wheel in built.glob("*.whl"):
            print(shutil.copy(wheel, options.out / wheel.name))


if __name__ == "__main__":
    main()
