"""Runner bundles: a runner, its runtime's libraries and the C runtime, in one folder that runs on any Linux kernel.

A bundle is made from the very wheel of the runtime: its shared libraries, and its headers where it has some. It travels
with a C library and loader of its own, so that it also runs on Android, which has neither. Its name holds a digest of
its content, so a copy of it anywhere never has to be compared byte by byte.
"""

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import contained_path, publish_directory, sha256_file

SOURCES = Path(__file__).parent / "runner"
MANIFEST = "bundle.json"
RUNNER = "runner"
WHEEL_MODULE = "cocorrrec_runner"
"""The package of prebuilt bundles, which ``make runner-wheel`` builds and the extra ``android`` installs."""
_DOWNLOAD_SECONDS = 600
_COMPILE_SECONDS = 300


@dataclass(frozen=True)
class RuntimeFamily:
    """What a runner is built from."""

    name: str
    package: str
    """On the package index."""
    sources: tuple[str, ...]
    """The program first."""
    folder: str
    """Of the libraries, inside the wheel."""
    linked: tuple[str, ...]
    registering: tuple[str, ...] = ()
    """Libraries that nothing refers to: they register themselves when they are loaded."""
    includes: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()


RUNTIMES = {
    "executorch": RuntimeFamily(
        name="executorch",
        package="executorch",
        sources=("executorch.cpp", "common.h"),
        folder="executorch/lib",
        linked=("executorch", "executorch_etdump", "executorch_threadpool"),
        registering=("executorch_backend_xnnpack", "executorch_kernels_optimized", "executorch_kernels_quantized"),
        includes=("executorch/include", "executorch/include/executorch/runtime/core/portable_type/c10"),
        definitions=("C10_USING_CUSTOM_GENERATED_MACROS", "ET_EVENT_TRACER_ENABLED", "ET_USE_THREADPOOL"),
    ),
    "tflite": RuntimeFamily(
        name="tflite",
        package="ai-edge-litert",
        sources=("litert.cpp", "common.h"),
        folder="ai_edge_litert",
        linked=("LiteRt",),
    ),
}
"""By target of an export."""


@dataclass(frozen=True)
class Abi:
    """A processor family, as Linux and as Android name it."""

    name: str
    android: str
    compiler: str
    loader: str
    debian_suffix: str
    """What Debian appends to the names of the cross compiler's libraries."""


ABIS = {
    "aarch64": Abi("aarch64", "arm64-v8a", "aarch64-linux-gnu-g++", "ld-linux-aarch64.so.1", "-arm64-cross"),
    "x86_64": Abi("x86_64", "x86_64", "x86_64-linux-gnu-g++", "ld-linux-x86-64.so.2", "-amd64-cross"),
}
_C_RUNTIME = (
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
    "libgcc_s.so.1",
)
_DEBIAN_PACKAGES = ("libc6", "libstdc++6", "libgcc-s1")


@dataclass(frozen=True)
class Bundle:
    """A folder whose every file is the one that its manifest names."""

    path: Path
    manifest: dict[str, Any]

    @property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the digest of all files."""
        return self.manifest["id"]

    @property
    def name(self) -> str:
        """What the folder is called: ``executorch-1.5.1-aarch64-<id>``."""
        return self.path.name

    @property
    def runtime(self) -> str:
        """``executorch 1.5.1``."""
        return f"{self.manifest['package']} {self.manifest['version']}"

    def command(self, folder: str) -> list[str]:
        """How to start the runner where the bundle lies in ``folder``: by its own loader, with its own libraries."""
        return [f"{folder}/{self.manifest['loader']}", "--library-path", folder, f"{folder}/{RUNNER}"]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Check every file of a bundle.

        Raises:
            CocorrrecError: a file is missing or changed.
        """
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            for file in manifest["files"]:
                inside = contained_path(path, file["path"], where=str(path / MANIFEST))
                if not inside.is_file() or sha256_file(inside) != file["sha256"]:
                    raise CocorrrecError(f"{path}: {file['path']} is missing or changed: remove the folder, build anew")
        except (ValueError, KeyError, TypeError) as error:
            raise CocorrrecError(f"{path / MANIFEST}: damaged: {error!r}; remove the folder, build anew") from None
        return cls(path, manifest)


def host_abi() -> str:
    """The ABI of this machine, ``x86_64`` or ``aarch64``.

    Raises:
        CocorrrecError: this is no Linux of either.
    """
    name = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine())
    if sys.platform != "linux" or name not in ABIS:
        raise CocorrrecError(f"runners exist for Linux on {' and '.join(ABIS)}, this is {sys.platform} on {name}")
    return name


def bundles_dir() -> Path:
    """Where built bundles are kept, for this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "cocorrrec-export" / "runners"


def installed() -> list[str]:
    """Targets whose runtime is installed, so that its runner can be built."""
    return [name for name, family in RUNTIMES.items() if _installed_version(family) is not None]


def find_bundle(target: str, abi: str) -> Bundle | None:
    """A bundle of the installed runtime's version and of these sources: one that was built here, or the wheel's.

    Raises:
        CocorrrecError: it is damaged.
    """
    family = RUNTIMES[target]
    version = _installed_version(family)
    for folder in _bundle_folders():
        for path in sorted(folder.glob(f"{target}-*-{abi}-*/{MANIFEST}")):
            bundle = Bundle.open(path.parent)
            same = bundle.manifest["source_sha256"] == _source_digest(family)
            if same and version in (None, bundle.manifest["version"]):
                return bundle
    return None


def ensure_bundle(target: str, abi: str, progress: Callable[[str], None]) -> Bundle:
    """A bundle, built now if there is none.

    Raises:
        CocorrrecError: there is none, and it cannot be built here.
    """
    if target not in RUNTIMES:
        raise CocorrrecError(f"there is no runner for {target} files: runners run {' and '.join(RUNTIMES)}")
    found = find_bundle(target, abi)
    if found is not None:
        return found
    progress(f"building the {target} runner for {abi} (once)")
    return build_bundle(target, abi, bundles_dir())


def build_bundle(target: str, abi: str, out: Path) -> Bundle:
    """Compile a runner and put everything that it needs beside it, in a folder of its own under ``out``.

    Raises:
        CocorrrecError: no runtime, no compiler, no wheel for this ABI, or the compiler's first complaint.
    """
    family, machine = RUNTIMES[target], ABIS[abi]
    version = _installed_version(family)
    if version is None:
        raise CocorrrecError(
            f"{family.package} is not installed: pip install 'cocorrrec-export[{target}]', "
            "or install the finished runners: pip install 'cocorrrec-export[android]'"
        )
    compiler = _find_compiler(machine)
    out.mkdir(parents=True, exist_ok=True)
    with _wheel(family, version, abi) as wheel, tempfile.TemporaryDirectory(dir=out, prefix=".build-") as work:
        staging = Path(work)
        libraries = [f"lib{name}.so" for name in family.linked + family.registering]
        for name in libraries:
            shutil.copy(wheel / family.folder / name, staging / name)
        _compile(family, compiler, wheel, staging)
        loader = _copy_c_runtime(machine, compiler, staging)
        _write_notices(family, machine, wheel, staging)
        manifest = _describe(staging, family, machine, version, loader, compiler)
        destination = out / f"{target}-{version}-{abi}-{manifest['id']}"
        with publish_directory(destination) as folder:
            for path in staging.iterdir():
                shutil.move(path, folder / path.name)
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return Bundle(destination, manifest)


def _bundle_folders() -> list[Path]:
    folders = [bundles_dir()]
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent)
    return folders


def _installed_version(family: RuntimeFamily) -> str | None:
    try:
        return importlib.metadata.version(family.package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _source_digest(family: RuntimeFamily) -> str:
    digest = hashlib.sha256()
    for name in family.sources:
        digest.update((SOURCES / name).read_bytes())
    return digest.hexdigest()


def _find_compiler(machine: Abi) -> str:
    names = [machine.compiler, *(["g++"] if machine.name == platform.machine() else [])]
    for name in names:
        if found := shutil.which(name):
            return found
    package = "g++" if machine.name == platform.machine() else f"g++-{machine.compiler.removesuffix('-g++')}"
    raise CocorrrecError(
        f"no compiler for {machine.name}: on Debian or Ubuntu run 'apt install {package}', elsewhere install the "
        "finished runners: pip install 'cocorrrec-export[android]'"
    )


@contextmanager
def _wheel(family: RuntimeFamily, version: str, abi: str) -> Iterator[Path]:
    """The unpacked wheel of this version for an ABI: the installed one, or one from the package index."""
    if abi == platform.machine() and sys.platform == "linux":
        yield Path(str(importlib.metadata.distribution(family.package).locate_file("")))
        return
    with tempfile.TemporaryDirectory() as folder:
        platforms = [f"--platform=manylinux_2_{minor}_{abi}" for minor in range(17, 36)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *platforms]
        command += ["--disable-pip-version-check", "--dest", folder, f"{family.package}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise CocorrrecError(f"no {family.package} {version} for {abi} from the package index: {said}")
        with zipfile.ZipFile(wheels[0]) as archive:
            archive.extractall(Path(folder) / "wheel")
        yield Path(folder) / "wheel"


def _compile(family: RuntimeFamily, compiler: str, wheel: Path, folder: Path) -> None:
    command = [compiler, "-std=c++17", "-O2", "-Wno-deprecated-declarations", f"-ffile-prefix-map={SOURCES}=."]
    command += [f"-isystem{wheel / include}" for include in family.includes]
    command += [f"-D{definition}" for definition in family.definitions]
    command += [str(SOURCES / family.sources[0]), "-o", str(folder / RUNNER), f"-L{folder}"]
    command += [f"-l{name}" for name in family.linked]
    command += ["-Wl,--push-state,--no-as-needed", *(f"-l{name}" for name in family.registering), "-Wl,--pop-state"]
    command += ["-Wl,--allow-shlib-undefined", "-lpthread", "-s"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMPILE_SECONDS)
    if done.returncode:
        lines = done.stderr.splitlines()
        first = next((line for line in lines if "error" in line or "undefined" in line), lines[0] if lines else "?")
        raise CocorrrecError(f"{compiler} cannot build the {family.name} runner: {first}")


def _copy_c_runtime(machine: Abi, compiler: str, folder: Path) -> str:
    """Copy the loader and the C and C++ libraries that the compiler links against; the loader's name."""
    for name in (machine.loader, *_C_RUNTIME):
        asked = subprocess.check_output([compiler, f"-print-file-name={name}"], text=True, timeout=60).strip()
        path = Path(asked)
        if not path.is_absolute() or not path.is_file():
            raise CocorrrecError(f"{compiler} does not know its {name}: this needs the compiler of Debian or Ubuntu")
        shutil.copy(path.resolve(), folder / name)
    (folder / machine.loader).chmod(0o755)
    return machine.loader


def _write_notices(family: RuntimeFamily, machine: Abi, wheel: Path, folder: Path) -> None:
    """The licences of everything in the bundle, and where its sources are."""
    suffix = "" if machine.name == platform.machine() else machine.debian_suffix
    lines = [
        "This folder holds programs and libraries of several licences, each in full beside this file.",
        f"runner: Apache-2.0, part of cocorrrec-export; its sources are {' and '.join(family.sources)}.",
        f"lib*{family.name}* and other libraries of {family.package}: LICENSE-{family.package}.txt.",
        "The C library and loader: LGPL-2.1-or-later. libstdc++, libgcc_s: GPL-3.0-or-later with the GCC Runtime "
        "Library Exception. They are unchanged files of these Debian packages, whose sources 'apt-get source' fetches:",
    ]
    for package in _DEBIAN_PACKAGES:
        name = package + suffix
        text = Path("/usr/share/doc") / name / "copyright"
        if not text.is_file():
            raise CocorrrecError(f"{text} is absent: a bundle must carry the licence of the C runtime inside it")
        shutil.copy(text, folder / f"LICENSE-{package}.txt")
        query = ["dpkg-query", "-W", "-f", "${source:Package} ${source:Version}", name]
        lines.append(f"  {name}: {subprocess.check_output(query, text=True, timeout=60)}")
    licences = sorted(wheel.glob(f"{family.package.replace('-', '_')}-*.dist-info/licenses/LICENSE*"))
    if not licences:
        raise CocorrrecError(f"the wheel of {family.package} holds no licence text")
    shutil.copy(licences[0], folder / f"LICENSE-{family.package}.txt")
    for name in family.sources:
        shutil.copy(SOURCES / name, folder / name)
    (folder / "NOTICE.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _describe(
    folder: Path, family: RuntimeFamily, machine: Abi, version: str, loader: str, compiler: str
) -> dict[str, Any]:
    files = [
        {"path": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.iterdir())
    ]
    content = "".join(f"{file['sha256']}  {file['path']}\n" for file in files)
    compiled_by = subprocess.check_output([compiler, "--version"], text=True, timeout=60).splitlines()[0]
    return {
        "schema_version": 1,
        "id": hashlib.sha256(content.encode()).hexdigest()[:16],
        "target": family.name,
        "package": family.package,
        "version": version,
        "abi": machine.name,
        "loader": loader,
        "compiler": compiled_by,
        "source_sha256": _source_digest(family),
        "files": files,
    }


@functools.cache
def bundle_bytes(bundle_path: Path) -> int:
    """Size of a bundle's files."""
    return sum(path.stat().st_size for path in bundle_path.iterdir())
