"""``cocorr-profile link``: real server, real sockets, small grid."""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.cli import console
from cocorrrec_export.cli.profile.app import app
from cocorrrec_export.contract import EntryPoint
from cocorrrec_export.link import exchange
from cocorrrec_export.profiling.report.document import write_profile
from cocorrrec_export.runtime.base import Runtime
from cocorrrec_export.runtime.open import open_runtime
from tests.exports import rehash
from tests.profiling.profiles import small_profile

GRID = ("--bandwidth", "20,100", "--rtt", "0,4", "--loss", "0", "--requests", "5")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    import signal

    monkeypatch.setattr(sys, "argv", ["cocorr-profile", "link", *map(str, arguments)])
    monkeypatch.setenv("COLUMNS", "200")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as end:
            console.run(app)
    finally:
        signal.signal(signal.SIGTERM, handler)
    return int(end.value.code or 0)


@pytest.mark.parametrize("shaping", ["auto", "proxy"])
def test_the_report_has_every_link_with_all_its_samples(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    scn_fp32: Artifact,
    gcn_fp32: Artifact,
    tmp_path: Path,
    shaping: str,
) -> None:
    halves = ("--scn", scn_fp32.path, "--gcn", gcn_fp32.path, "--output", tmp_path)
    assert run(monkeypatch, *halves, *GRID, "--shaping", shaping, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert document == json.loads((tmp_path / "link.json").read_text())
    assert (document["upload_bytes"], document["download_bytes"]) == (2560, 4160)
    assert document["tolerance"]["ms"] > 0 and "executorch" in document["tolerance"]["source"]
    assert document["shaping"] in ("proxy", "namespace")
    assert [(x["bandwidth_mb_s"], x["rtt_ms"]) for x in document["links"]] == [(20, 0), (100, 0), (20, 4), (100, 4)]
    for link in document["links"]:
        assert link["requests"] == 5 and link["failed"] == 0
        parts = [link[f"{part}_ms"]["raw"] for part in ("upload", "cloud", "download")]
        for up, cloud, down, total in zip(*parts, link["total_ms"]["raw"], strict=True):
            assert min(up, cloud, down) > 0 and up + cloud + down == pytest.approx(total)
            assert total >= link["rtt_ms"]
        in_time = sum(total <= document["tolerance"]["ms"] for total in link["total_ms"]["raw"])
        assert link["in_time"] == in_time / 5
    page = (tmp_path / "link.html").read_text()
    assert "<svg" in page and "the correction is needed" in page and "http://" not in page.split("<svg")[0]


def test_tolerance_of_a_phone_and_of_an_app(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    scn_fp32: Artifact,
    gcn_fp32: Artifact,
    tmp_path: Path,
) -> None:
    phone = small_profile()
    phone["machine"] |= {"name": "Pixel", "soc": "Tensor"}
    (rank,) = [entry for entry in phone["entry_points"] if entry["name"] == "rank"]
    rank["runs"][0]["p50_us"] = 4210.0
    write_profile(tmp_path, phone)
    common = ("--scn", scn_fp32.path, "--gcn", gcn_fp32.path, "--output", tmp_path, "--rtt", "0", "--loss", "0")
    small = (*common, "--bandwidth", "100", "--requests", "3", "--shaping", "proxy")
    assert run(monkeypatch, *small, "--profile", tmp_path) == 0
    shown = capfd.readouterr().out
    assert "tolerance 4.210 ms: 'rank', p50 on Pixel, Tensor, from profile.json" in shown
    assert run(monkeypatch, *small, "--deadline-ms", 60_000) == 0
    assert "100%" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--bandwidth", "0"), 2, "--bandwidth takes numbers from 0.01"),
        (("--rtt", "x"), 2, "--rtt takes numbers from 0 to 10000"),
        (("--loss", "99"), 2, "--loss takes numbers from 0 to 50"),
        (("--profile", "x", "--deadline-ms", "5"), 2, "both set the tolerance"),
        (("--scn", "nothing"), 2, "no such folder"),
        (("--profile", "nothing"), 2, "no such file"),
        (("--profile", "bad.json"), 1, "missing key 'schema_version'"),
        (("--profile", "other.json"), 1, "other.json: holds no time of 'rank'"),
        (("--shaping", "magic"), 2, "known are auto, namespace, proxy"),
    ],
)
def test_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    scn_fp32: Artifact,
    gcn_fp32: Artifact,
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    other = small_profile()
    other["entry_points"] = [entry for entry in other["entry_points"] if entry["name"] != "rank"]
    write_profile(tmp_path, other).rename("other.json")
    Path("bad.json").write_text('{"entry_points": [{"name": "rank", "runs": []}]}')
    halves = ("--gcn", gcn_fp32.path, *(() if "--scn" in arguments else ("--scn", scn_fp32.path)))
    assert run(monkeypatch, *halves, *arguments) == code
    captured = capfd.readouterr()
    assert message in captured.err and "Traceback" not in captured.err and not captured.out
    assert not Path("profiles").exists()


def test_help_has_examples(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--help") == 0
    assert "cocorr-profile link --bandwidth 5,100" in capfd.readouterr().out


def test_halves_of_two_models_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    scn_fp32: Artifact,
    gcn_fp32: Artifact,
    tmp_path: Path,
) -> None:
    """The same names and shapes, of other weights: yesterday's cloud would answer today's phone."""
    other = tmp_path / "gcn"
    shutil.copytree(gcn_fp32.path, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["model"]["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    rehash(other, resealed=False)
    assert run(monkeypatch, "--scn", scn_fp32.path, "--gcn", other, "--output", tmp_path / "out", *GRID) == 2
    assert "export both halves of one model" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_phone_s_model_is_loaded_from_the_copy_that_was_checked(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], scn_fp32: Artifact, gcn_fp32: Artifact
) -> None:
    """A file that is exchanged after its check is not the one that runs."""
    opened: list[Path] = []

    def watched(target: str, program: Path, entry_points: Sequence[EntryPoint]) -> Runtime:
        opened.append(program)
        return open_runtime(target, program, entry_points)

    monkeypatch.setattr(exchange, "open_runtime", watched)
    halves = ("--scn", scn_fp32.path, "--gcn", gcn_fp32.path)
    assert run(monkeypatch, *halves, "--requests", "1", "--shaping", "nonsense") == 2
    capfd.readouterr()
    assert [path.name for path in opened] == [scn_fp32.program.name]
    assert scn_fp32.path not in opened[0].parents and not opened[0].exists()
