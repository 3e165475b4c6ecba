"""Runner packages: a runner, its runtime's libraries and the C runtime, in one folder that runs on any Linux kernel.

A package is made from the wheel of the runtime itself: its shared libraries, and its headers where it has some. It
travels with a C library and loader of its own, so that it also runs on Android, which has neither. Its name holds a
digest of its content, so a copy of it anywhere never has to be compared byte by byte.
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
from cocorrrec_export.files import contained_path, listed_files, publish_directory, require_writable, sha256_file
from cocorrrec_export.isolation import child_environment, python_command
from cocorrrec_export.targets import NativeRunner, find_target, with_runner

SOURCES = Path(__file__).parent
DESCRIPTION = "runner.json"
RUNNER = "runner"
WHEEL_MODULE = "cocorrrec_runner"
"""The distribution with prebuilt runner packages, made by ``make runner-wheel``, installed by the extra ``android``."""
ZIG = "ziglang"
"""A compiler from the package index, which needs nothing of the system."""
_ZIG_OPTIONS = ("-D_LIBCPP_ABI_VARIANT_INDEX_TYPE_OPTIMIZATION",)  # std::variant as in the libraries' libstdc++
_DOWNLOAD_SECONDS = 600
_COMPILE_SECONDS = 300


@dataclass(frozen=True)
class Abi:
    """A processor family, as Linux and as Android name it."""

    name: str
    android: str
    triplet: str
    loader: str
    debian_suffix: str
    """What Debian appends to the names of the cross compiler's libraries."""
    elf_machine: int
    """In the header of its libraries."""


ABIS = {
    "aarch64": Abi("aarch64", "arm64-v8a", "aarch64-linux-gnu", "ld-linux-aarch64.so.1", "-arm64-cross", 183),
    "x86_64": Abi("x86_64", "x86_64", "x86_64-linux-gnu", "ld-linux-x86-64.so.2", "-amd64-cross", 62),
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
_GLIBC = "2.34"
"""What the wheels of the runtimes need."""


@dataclass(frozen=True)
class RunnerPackage:
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
        """How to start the runner where the package lies in ``folder``: by its own loader, with its own libraries."""
        return [f"{folder}/{self.manifest['loader']}", "--library-path", folder, f"{folder}/{RUNNER}"]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Check every file of a package.

        Raises:
            CocorrrecError: a file is missing or changed.
        """
        try:
            manifest = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
            for file in manifest["files"]:
                inside = contained_path(path, file["path"], where=str(path / DESCRIPTION))
                if not inside.is_file() or sha256_file(inside) != file["sha256"]:
                    raise CocorrrecError(
                        f"{path}: {file['path']} is missing or changed: remove the folder, build again"
                    )
        except (ValueError, KeyError, TypeError) as error:
            raise CocorrrecError(f"{path / DESCRIPTION}: damaged: {error!r}; remove the folder, build again") from None
        return cls(path, manifest)


def host_abi() -> str:
    """The ABI of this machine, ``x86_64`` or ``aarch64``.

    Raises:
        CocorrrecError: this is not a Linux of either.
    """
    name = {"arm64": "aarch64", "amd64": "x86_64"}.get(platform.machine().lower(), platform.machine())
    if sys.platform != "linux" or name not in ABIS:
        raise CocorrrecError(f"runners exist for Linux on {' and '.join(ABIS)}, this is {sys.platform} on {name}")
    return name


def runner_of(target: str) -> NativeRunner:
    """What the runner of a target's files is built from.

    Raises:
        CocorrrecError: the target has no runner.
    """
    runner = find_target(target).runner
    if runner is None:
        raise CocorrrecError(f"there is no runner for {target} files: runners run {' and '.join(with_runner())}")
    return runner


def packages_dir() -> Path:
    """Where built packages are kept, for this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "cocorrrec-export" / "runners"


def installed() -> list[str]:
    """Targets whose runtime is installed, so that its runner can be built."""
    return [name for name in with_runner() if _installed_version(runner_of(name)) is not None]


def find_package(target: str, abi: str) -> RunnerPackage | None:
    """A package of the installed runtime's version and of these sources: one that was built here, or the wheel's.

    Raises:
        CocorrrecError: it is damaged.
    """
    family = runner_of(target)
    version = _installed_version(family)
    for folder in _package_folders():
        for path in sorted(folder.glob(f"{target}-*-{abi}-*/{DESCRIPTION}")):
            package = RunnerPackage.open(path.parent)
            same = package.manifest["source_sha256"] == _source_digest(family)
            if same and version in (None, package.manifest["version"]):
                return package
    return None


def ensure_package(target: str, abi: str, progress: Callable[[str], None]) -> RunnerPackage:
    """A package, built now if there is none.

    Raises:
        CocorrrecError: there is none, and it cannot be built here.
    """
    runner_of(target)
    found = find_package(target, abi)
    if found is not None:
        return found
    progress(f"building the {target} runner for {abi} (once)")
    return build_package(target, abi, packages_dir())


@dataclass(frozen=True)
class Toolchain:
    """A compiler for one ABI, and where the C runtime that travels along is taken from.

    Args:
        machine: the ABI.
        command: how the compiler is started.
        root: where the folders of the C runtime are; None: the compiler knows.
        system: root folder of the system whose packages those files are from.
        suffix: of the names of these packages.
    """

    machine: Abi
    command: tuple[str, ...]
    root: Path | None = None
    system: Path = Path("/")
    suffix: str = ""

    @property
    def version(self) -> str:
        """What the compiler calls itself."""
        if self.root is not None:
            return f"zig {importlib.metadata.version(ZIG)}"
        return subprocess.check_output([*self.command, "--version"], text=True, timeout=60).splitlines()[0]

    def runtime_file(self, name: str) -> Path:
        """A library of the C runtime, or its loader.

        Raises:
            CocorrrecError: it is not where it should be.
        """
        if self.root is None:
            asked = subprocess.check_output([*self.command, f"-print-file-name={name}"], text=True, timeout=60).strip()
            if not Path(asked).is_absolute() or not Path(asked).is_file():
                raise CocorrrecError(f"{self.command[0]} does not know its {name}: this needs that of Debian or Ubuntu")
            return Path(asked).resolve()
        found = _runtime_file(self.root, self.machine, name)
        if found is None:
            raise CocorrrecError(f"{self.root} holds no {name} for {self.machine.name}, and a runner needs one")
        return found


def _runtime_file(root: Path, machine: Abi, name: str) -> Path | None:
    """A library of an ABI in a Linux system, where distributions put it."""
    for folder in (f"lib/{machine.triplet}", f"usr/lib/{machine.triplet}", "lib64", "usr/lib64", "lib", "usr/lib"):
        path = root / folder / name
        if path.is_file():
            with path.open("rb") as file:
                header = file.read(20)
            if header[:4] == b"\x7fELF" and int.from_bytes(header[18:20], "little") == machine.elf_machine:
                return path.resolve()
    return None


def build_package(target: str, abi: str, out: Path, *, sysroot: Path | None = None) -> RunnerPackage:
    """Compile a runner and put everything that it needs next to it, in a folder of its own under ``out``.

    Args:
        target: of an export.
        abi: of the device.
        out: folder for the package's folder.
        sysroot: root folder of a Linux system of this ABI; its C runtime is taken, and zig compiles.

    Raises:
        CocorrrecError: no runtime, no compiler, no wheel for this ABI, or the compiler's first complaint.
    """
    family, machine = runner_of(target), ABIS[abi]
    version = _installed_version(family)
    if version is None:
        raise CocorrrecError(
            f"{family.distribution} is not installed: pip install 'cocorrrec-export[{target}]', "
            "or install the finished runners: pip install 'cocorrrec-export[android]'"
        )
    toolchain = _find_toolchain(machine, sysroot)
    require_writable(out / DESCRIPTION)
    with _wheel(family, version, abi) as wheel, tempfile.TemporaryDirectory(prefix="cocorr-build-") as work:
        staging = Path(work)
        libraries = [f"lib{name}.so" for name in family.linked + family.registering]
        for name in libraries:
            shutil.copy(wheel / family.folder / name, staging / name)
        _compile(family, toolchain, wheel, staging)
        for name in (machine.loader, *_C_RUNTIME):
            shutil.copy(toolchain.runtime_file(name), staging / name)
        (staging / machine.loader).chmod(0o755)
        _write_notices(family, toolchain, wheel, staging)
        manifest = _describe(staging, family, machine, version, toolchain.version)
        destination = out / f"{target}-{version}-{abi}-{manifest['id']}"
        with publish_directory(
            destination, functools.partial(listed_files, index=DESCRIPTION, keys=("id", "target", "abi"))
        ) as folder:
            for path in staging.iterdir():
                shutil.move(path, folder / path.name)
            (folder / DESCRIPTION).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return RunnerPackage(destination, manifest)


def _package_folders() -> list[Path]:
    folders = [packages_dir()]
    spec = importlib.util.find_spec(WHEEL_MODULE)
    if spec is not None and spec.origin is not None:
        folders.append(Path(spec.origin).parent)
    return folders


def _installed_version(family: NativeRunner) -> str | None:
    try:
        return importlib.metadata.version(family.distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _source_digest(family: NativeRunner) -> str:
    digest = hashlib.sha256()
    for name in family.sources:
        digest.update((SOURCES / name).read_bytes())
    return digest.hexdigest()


def _find_toolchain(machine: Abi, sysroot: Path | None) -> Toolchain:
    """Debian's (cross) compiler; else zig, with the C runtime of ``sysroot``, of this machine or of a cross package."""
    native = machine.name == platform.machine() and sys.platform == "linux"
    suffix = "" if native else machine.debian_suffix
    if sysroot is None:
        for name in (f"{machine.triplet}-g++", *(["g++"] if native else [])):
            if found := shutil.which(name):
                return Toolchain(machine, (found,), suffix=suffix)
    package = "g++" if native else f"g++-{machine.triplet}"
    hint = (
        f"on Debian or Ubuntu run 'apt install {package}', elsewhere install the finished runners: "
        "pip install 'cocorrrec-export[android]'"
    )
    if importlib.util.find_spec(ZIG) is None:
        raise CocorrrecError(f"no compiler for {machine.name}: {hint}, or zig: pip install 'cocorrrec-export[zig]'")
    zig = (*python_command("-m", ZIG), "c++", "-target", f"{machine.triplet}.{_GLIBC}", *_ZIG_OPTIONS)
    root = sysroot or (Path("/") if native else Path("/usr") / machine.triplet)
    if _runtime_file(root, machine, "libc.so.6") is None:
        raise CocorrrecError(
            f"zig compiles for {machine.name}, but a runner also takes a C library along, and {root} has none for it: "
            f"name with --sysroot the root folder of a Linux system or container image of {machine.name} with glibc "
            f"{_GLIBC} or newer and libstdc++; or {hint}"
        )
    if sysroot is not None:
        return Toolchain(machine, zig, root, system=sysroot)
    return Toolchain(machine, zig, root, suffix=suffix)


@contextmanager
def _wheel(family: NativeRunner, version: str, abi: str) -> Iterator[Path]:
    """The unpacked wheel of this version for an ABI: the installed one, or one from the package index."""
    if abi == platform.machine() and sys.platform == "linux":
        yield Path(str(importlib.metadata.distribution(family.distribution).locate_file("")))
        return
    with tempfile.TemporaryDirectory() as folder:
        platforms = [f"--platform=manylinux_2_{minor}_{abi}" for minor in range(17, 36)]
        command = [*python_command("-m", "pip"), "download", "--quiet", "--no-deps", "--only-binary=:all:", *platforms]
        command += ["--disable-pip-version-check", "--dest", folder, f"{family.distribution}=={version}"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS, env=child_environment()
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise CocorrrecError(f"no {family.distribution} {version} for {abi} from the package index: {said}")
        with zipfile.ZipFile(wheels[0]) as archive:
            archive.extractall(Path(folder) / "wheel")
        yield Path(folder) / "wheel"


def _compile(family: NativeRunner, toolchain: Toolchain, wheel: Path, folder: Path) -> None:
    command = [*toolchain.command, "-std=c++17", "-O2", "-Wno-deprecated-declarations"]
    command += [f"-ffile-prefix-map={SOURCES}=."]
    command += [f"-isystem{wheel / include}" for include in family.includes]
    command += [f"-D{definition}" for definition in family.definitions]
    command += [str(SOURCES / family.sources[0]), "-o", str(folder / RUNNER), f"-L{folder}"]
    command += [f"-l{name}" for name in family.linked]
    command += ["-Wl,--no-as-needed", *(f"-l{name}" for name in family.registering), "-Wl,--as-needed"]
    command += ["-Wl,--allow-shlib-undefined", "-lpthread", "-s"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_COMPILE_SECONDS, env=child_environment()
    )
    if done.returncode:
        lines = done.stderr.splitlines()
        first = next((line for line in lines if "error" in line or "undefined" in line), lines[0] if lines else "?")
        raise CocorrrecError(f"{toolchain.version} cannot build the {family.name} runner: {first}")


def _write_notices(family: NativeRunner, toolchain: Toolchain, wheel: Path, folder: Path) -> None:
    """The licenses of everything in the package, and where its sources are."""
    lines = [
        "This folder holds programs and libraries of several licenses, each in full next to this file.",
        f"runner: Apache-2.0, part of cocorrrec-export; its sources are {' and '.join(family.sources)}.",
        f"lib*{family.name}* and other libraries of {family.distribution}: LICENSE-{family.distribution}.txt.",
        "The C library and loader: LGPL-2.1-or-later. libstdc++, libgcc_s: GPL-3.0-or-later with the GCC Runtime "
        "Library Exception. They are unchanged files",
    ]
    packages = {name: f"{name}{toolchain.suffix}" for name in _DEBIAN_PACKAGES}
    texts = {name: toolchain.system / "usr/share/doc" / full / "copyright" for name, full in packages.items()}
    if all(text.is_file() for text in texts.values()):
        lines[-1] += " of these Debian packages, whose sources 'apt-get source' fetches:"
        for name, full in packages.items():
            shutil.copy(texts[name], folder / f"LICENSE-{name}.txt")
            lines.append(f"  {full}: {_debian_source(toolchain.system, full)}")
    elif toolchain.root is None:
        raise CocorrrecError(f"{texts['libc6']} is absent: a package must carry the license of the C runtime inside it")
    else:
        lines[0] = "This package is for use by whoever built it: the license texts of its C runtime are not in it."
        lines[-1] += " of the system that it was built on."
    if toolchain.root is not None:
        text = importlib.metadata.distribution(ZIG).locate_file(f"{ZIG}/lib/libcxx/LICENSE.TXT")
        shutil.copy(str(text), folder / "LICENSE-libcxx.txt")
        lines.append("libc++ and compiler-rt, which zig linked into the runner: Apache-2.0 with the LLVM exceptions.")
    licenses = sorted(wheel.glob(f"{family.distribution.replace('-', '_')}-*.dist-info/licenses/LICENSE*"))
    if not licenses:
        raise CocorrrecError(f"the wheel of {family.distribution} holds no license text")
    shutil.copy(licenses[0], folder / f"LICENSE-{family.distribution}.txt")
    for name in family.sources:
        shutil.copy(SOURCES / name, folder / name)
    (folder / "NOTICE.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _debian_source(system: Path, package: str) -> str:
    """Name and version of the source package that an installed package was built from."""
    query = ["dpkg-query", f"--admindir={system / 'var/lib/dpkg'}", "-W", "-f", "${source:Package} ${source:Version}\n"]
    try:
        said = subprocess.run([*query, package], capture_output=True, text=True, check=False, timeout=60).stdout
    except FileNotFoundError:  # not on this computer
        said = ""
    return said.partition("\n")[0] or "its version is in the changelog of that system's package"


def _describe(folder: Path, family: NativeRunner, machine: Abi, version: str, compiled_by: str) -> dict[str, Any]:
    files = [
        {"path": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.iterdir())
    ]
    content = "".join(f"{file['sha256']}  {file['path']}\n" for file in files)
    return {
        "schema_version": 1,
        "id": hashlib.sha256(content.encode()).hexdigest()[:16],
        "target": family.name,
        "package": family.distribution,
        "version": version,
        "abi": machine.name,
        "loader": machine.loader,
        "compiler": compiled_by,
        "source_sha256": _source_digest(family),
        "files": files,
    }


@functools.cache
def package_bytes(package_path: Path) -> int:
    """Size of a package's files."""
    return sum(path.stat().st_size for path in package_path.iterdir())
