"""An adb whose device is a folder of this machine: real shell, real files. Real devices: tests/device."""

import hashlib
import json
from pathlib import Path

import pytest

from cocorrrec_export.profiling.machines import device
from cocorrrec_export.profiling.machines.adb import Adb
from cocorrrec_export.profiling.runner.package import DESCRIPTION, RunnerPackage

SCRIPT = """#!/bin/sh
if [ "$1" = devices ]; then printf 'List\\nR5CT\\tdevice\\n'; exit; fi
shift 2
case "$1" in
  shell) exec sh -c "$2" ;;
  push) cp -r "$2" "$3" && echo "1 file pushed" ;;
  pull) cp "$2" "$3" ;;
esac
"""


def pretended_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Adb:
    """A device whose /data/local/tmp is ``folder / "base"``."""
    (folder / "base").mkdir()
    monkeypatch.setattr(device, "BASE", str(folder / "base"))
    monkeypatch.setattr(device, "HOME", str(folder / "base" / "cocorrrec"))
    path = folder / "adb"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return Adb(path, "R5CT")


def small_package(folder: Path) -> RunnerPackage:
    """A package of two files."""
    place = folder / "executorch-1-x86_64-0123"
    place.mkdir()
    files = []
    for name, data in (("loader", b"#!/bin/sh\n"), ("runner", b"\x01" * 100)):
        (place / name).write_bytes(data)
        files.append({"path": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    manifest = {"id": "0123", "package": "executorch", "version": "1", "loader": "loader", "files": files}
    (place / DESCRIPTION).write_text(json.dumps(manifest))
    return RunnerPackage(place, manifest)
