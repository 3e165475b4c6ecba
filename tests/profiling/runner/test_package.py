"""Packages: complete, licensed, and refused when damaged."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.runner import package as runner_package
from cocorrrec_export.profiling.runner.package import RunnerPackage, build_package, find_package, host_abi


def test_a_package_holds_all_that_it_needs(executorch_package: RunnerPackage) -> None:
    folder = executorch_package.path
    names = {file["path"] for file in executorch_package.manifest["files"]}
    assert names | {"runner.json"} == {path.name for path in folder.iterdir()}
    assert {"runner", "libc.so.6", "libstdc++.so.6", "NOTICE.txt", "LICENSE-executorch.txt"} <= names
    assert executorch_package.name.endswith(executorch_package.id)
    assert b"cocorrrec_export" not in (folder / "runner").read_bytes(), "a path of the build machine is inside"
    # Its own loader finds every library in the folder itself, and no other.
    command = [*executorch_package.command(str(folder))[:3], "--list", str(folder / "runner")]
    listed = subprocess.check_output(command, text=True, env={"PATH": os.environ["PATH"]})
    libraries = [line.split("=>")[1].split()[0] for line in listed.splitlines() if "=>" in line and "vdso" not in line]
    assert libraries and all(Path(path).parent == folder for path in libraries if "ld-linux" not in path)


def test_building_again_gives_the_same_package(executorch_package: RunnerPackage, tmp_path: Path) -> None:
    assert build_package("executorch", host_abi(), tmp_path).id == executorch_package.id


def test_finding(executorch_package: RunnerPackage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner_package, "packages_dir", lambda: executorch_package.path.parent)
    found = find_package("executorch", host_abi())
    assert found is not None and found.id == executorch_package.id
    assert find_package("tflite", host_abi()) is None
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("executorch.cpp", "common.h"):
        (sources / name).write_text((runner_package.SOURCES / name).read_text() + "\n")
    monkeypatch.setattr(runner_package, "SOURCES", sources)
    assert find_package("executorch", host_abi()) is None, "it was built from other sources"


def test_damage_is_noticed(executorch_package: RunnerPackage, tmp_path: Path) -> None:
    copy = tmp_path / executorch_package.name
    copy.mkdir()
    for path in executorch_package.path.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert RunnerPackage.open(copy).id == executorch_package.id
    with (copy / "libm.so.6").open("ab") as file:
        file.write(b"x")
    with pytest.raises(CocorrrecError, match=r"libm\.so\.6 is missing or changed"):
        RunnerPackage.open(copy)
    manifest = json.loads((copy / "runner.json").read_text())
    manifest["files"][0]["path"] = "../outside"
    (copy / "runner.json").write_text(json.dumps(manifest))
    with pytest.raises(CocorrrecError, match="leads outside"):
        RunnerPackage.open(copy)
    (copy / "runner.json").write_text("{")
    with pytest.raises(CocorrrecError, match="damaged"):
        RunnerPackage.open(copy)


def a_library(path: Path, elf_machine: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF" + bytes(14) + elf_machine.to_bytes(2, "little") + bytes(100))


def test_which_toolchain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Debian's compiler if there is one; else zig, with a C runtime of the right processor."""
    find, phone = runner_package._find_toolchain, runner_package.ABIS["aarch64"]
    root = tmp_path / "arm64"
    a_library(root / "lib64" / "libc.so.6", 62)
    a_library(root / "usr/lib/aarch64-linux-gnu" / "libc.so.6", 183)
    monkeypatch.setattr(runner_package.importlib.util, "find_spec", lambda _: True)
    with_zig = find(phone, root)
    assert with_zig.command[1:4] == ("-P", "-m", "ziglang") and "aarch64-linux-gnu.2.34" in with_zig.command
    assert with_zig.runtime_file("libc.so.6") == root / "usr/lib/aarch64-linux-gnu" / "libc.so.6"
    assert (with_zig.system, with_zig.suffix) == (root, "")
    with pytest.raises(CocorrrecError, match=r"arm64 holds no libm\.so\.6 for aarch64"):
        with_zig.runtime_file("libm.so.6")
    with pytest.raises(CocorrrecError, match=r"arm64/usr has none for it: name with --sysroot"):
        find(runner_package.ABIS["x86_64"], root / "usr")
    compiler = tmp_path / "bin" / "aarch64-linux-gnu-g++"
    a_library(compiler, 62)
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(compiler.parent))
    assert find(phone, None).command == (str(compiler),)
    assert find(phone, root).command == with_zig.command


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(runner_package.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CocorrrecError, match=r"no compiler for x86_64: .*apt install g\+\+.*\[android\]"):
        build_package("executorch", "x86_64", tmp_path)
    with pytest.raises(CocorrrecError, match=r"apt install g\+\+-aarch64-linux-gnu.*or zig: pip install .*\[zig\]"):
        build_package("executorch", "aarch64", tmp_path)
