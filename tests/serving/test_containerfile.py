"""The container of the server: its commands are run here, without the container."""

import json
import re
import subprocess
import sys
from pathlib import Path

from cocorrrec_export.artifact.manifest import Artifact
from tests.conftest import ROOT

TEXT = (ROOT / "Containerfile").read_text()


def listed(instruction: str) -> list[str]:
    """The last JSON list that follows an instruction."""
    found = re.findall(rf"^{instruction}\b(?:[^\n]*\\\n)*[^\n]*?(\[.*\])$", TEXT, re.M)
    return list(json.loads(found[-1]))


def test_it_does_not_run_as_root() -> None:
    users = re.findall(r"^USER (\d+)$", TEXT, re.M)
    assert users and int(users[-1]) >= 1000
    assert TEXT.rindex("\nUSER ") < TEXT.rindex("\nENTRYPOINT ")


def test_the_entry_point_serves_and_the_health_check_sees_it(gcn_fp32: Artifact, tmp_path: Path) -> None:
    program, *arguments = listed("ENTRYPOINT")
    arguments = [str(gcn_fp32.path) if x == "/artifact" else "0" if x == "8080" else x for x in arguments]
    check = listed("HEALTHCHECK")
    assert check[0] == "python"
    command = [str(Path(sys.executable).parent / program), *arguments, "--drain-seconds", "0", "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        port = json.loads(server.stdout.readline())["address"].rsplit(":", 1)[1]
        probe = [sys.executable, *(x.replace(":8080", f":{port}") for x in check[1:])]
        assert subprocess.run(probe, timeout=60).returncode == 0
        server.terminate()
        server.wait(60)
    assert subprocess.run(probe, timeout=60, stderr=subprocess.DEVNULL).returncode != 0


def test_the_context_leaves_out_what_the_image_does_not_need() -> None:
    left_out = (ROOT / ".containerignore").read_text().split()
    assert {"models", "tests", ".git"} <= set(left_out)
    copied = {
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "LICENSE",
        "NOTICE",
        "cocorrrec_export",
        "export_recipes",
    }
    assert not copied & set(left_out) and all((ROOT / name).exists() for name in copied)
