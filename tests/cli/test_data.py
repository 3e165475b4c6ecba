"""``data prepare`` and ``data statistics`` as a shell sees them, and the model of a prepared data set."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cocorrrec_export.data.prepared import write_cut
from cocorrrec_export.modeling.store import open_model
from tests.commands import Cli, start
from tests.data.files.public_files import RELEASES, TEXT, rows, write_release
from tests.data.test_prepared import ORIGIN, example

FILTERS = ("--min-item", 4, "--min-user", 5, "--min-rating", 2)


@pytest.mark.parametrize("release", ["amazon ratings 2018", "amazon reviews 2014", "yelp reviews"])
def test_prepare_and_statistics_agree(cli: Cli, tmp_path: Path, release: str) -> None:
    file, out = write_release(tmp_path, RELEASES[release], rows(), suffix=".gz"), tmp_path / "a.cut"
    ended = cli("data", "prepare", file, "--out", out, *FILTERS, "--json")
    assert ended.code == 0, ended.stderr
    made = json.loads(ended.stdout)
    assert made["path"] == str(out) and made["bytes"] == out.stat().st_size
    expected = {"min_item_interactions": 4, "min_user_interactions": 5, "min_rating": 2.0}
    assert made["filters"] == made["filters"] | expected
    of_cut, of_file = (json.loads(cli("data", "statistics", *x, "--json").stdout) for x in ([out], [file, *FILTERS]))
    assert of_cut["statistics"] == of_file["statistics"] == made["statistics"]
    assert of_cut["filters"] == of_file["filters"] == made["filters"]
    assert of_cut["vocabulary_sha256"] == of_file["vocabulary_sha256"] == made["vocabulary_sha256"]
    counts = made["statistics"]
    assert counts["interactions_per_user"] == counts["interactions"] / counts["users"]


def test_tables(cli: Cli, tmp_path: Path) -> None:
    file, out = write_release(tmp_path, RELEASES["yelp reviews"], rows()), tmp_path / "a.cut"
    ended = cli("data", "prepare", file, "--out", out)
    assert ended.code == 0
    assert all(word in ended.stdout for word in ("users", "items", "interactions per user", "a.cut", "bytes"))
    assert "density" in cli("data", "statistics", out).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prepare", "{tmp}/none.json", "--out", "{tmp}/a.cut"], 2, "none.json: no such file"),
        (
            ["prepare", "{file}", "--out", "{tmp}/a.cut", "--format", "yelp"],
            2,
            "did you mean 'yelp-reviews'? known: amazon-ratings",
        ),
        (["prepare", "{file}", "--out", "{tmp}/a.cut", "--min-user", "2"], 2, "must be at least 3"),
        (["prepare", "{file}", "--out", "{tmp}/a.cut", "--min-user", "1000"], 1, "nothing is left"),
        (["prepare", "{file}", "--out", "{file}"], 2, "--out is the file itself"),
        (["prepare", "{file}", "--out", "{tmp}"], 2, "is a folder"),
        (["prepare", "{file}"], 2, "--out"),
        (["statistics", "{file}", "--user-column", "reviewerID"], 2, "no key 'reviewerID'"),
    ],
)
def test_one_clear_error(cli: Cli, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    file = write_release(tmp_path, RELEASES["yelp reviews"], rows())
    before = file.read_bytes()
    ended = cli("data", *(x.format(tmp=tmp_path, file=file) for x in arguments))
    assert (ended.code, ended.stdout) == (code, "")
    assert message in " ".join(ended.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == [file] and file.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_leaves_the_old_cut(tmp_path: Path, number: signal.Signals) -> None:
    file, out = write_release(tmp_path, RELEASES["yelp reviews"], rows()), tmp_path / "a.cut"
    write_cut(out, example(), ORIGIN)
    before = out.read_bytes()
    # Stop where the file is read: the command tells that it got there, then waits.
    prelude = (
        "import pathlib, time\n"
        "from cocorrrec_export.data.files import streaming\n"
        "def wait(*_):\n"
        f"    pathlib.Path({str(tmp_path / 'reading')!r}).touch()\n"
        "    time.sleep(60)\n"
        "streaming.check_zero_bytes = wait\n"
    )
    process = start("data", "prepare", file, "--out", out, cwd=tmp_path, prelude=prelude)
    deadline = time.monotonic() + 60
    while not (tmp_path / "reading").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "interrupted" in err, err
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, "a.cut", "reading"])


def test_a_model_trained_from_a_cut_is_bit_for_bit_that_of_the_file(cli: Cli, tmp_path: Path) -> None:
    file, out = write_release(tmp_path, RELEASES["amazon ratings 2014"], rows(900, books=200)), tmp_path / "a.cut"
    assert cli("data", "prepare", file, "--out", out, *FILTERS).code == 0
    config = tmp_path / "train.toml"
    config.write_text("[training]\nevaluation_negatives = 10\nepochs = 1\n")
    for name, arguments in {"file": [file, *FILTERS], "cut": [out], "cut-again": [out, *FILTERS]}.items():
        ended = cli(
            "train",
            "--data",
            *arguments,
            "--config",
            config,
            "--out",
            tmp_path / name,
            "--name",
            "m",
            "--correction",
            "none",
        )
        assert ended.code == 0, ended.stderr
    expected = open_model(tmp_path / "file")
    for name in ("cut", "cut-again"):
        for part in ("weights.safetensors", "model.toml", "evaluation.safetensors", "items.csv.gz"):
            assert (tmp_path / name / part).read_bytes() == (tmp_path / "file" / part).read_bytes(), part
    assert expected.data["filters"]["min_item_interactions"] == 4
    for data in (file, out):
        ended = cli("evaluate", "--model", tmp_path / "cut", "--data", data, "--json")
        assert ended.code == 0, ended.stderr
        assert json.loads(ended.stdout)["metrics"]["alone"]["uauc"] == pytest.approx(expected.metrics["alone"]["uauc"])


# VmHWM starts again with the program; ru_maxrss would begin with what the tests themselves have used.
MEASURE = """
import sys
from pathlib import Path
from cocorrrec_export.data.sources import DataSource, make_cut
def peak_kilobytes():
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
before = peak_kilobytes()
made = make_cut(Path(sys.argv[1]), DataSource(), Path(sys.argv[2]))
print(peak_kilobytes() - before, len(made.items))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text_of_the_reviews(tmp_path: Path) -> None:
    """300,000 reviews, 450 MB of JSON: what is held is the ids, 16 bytes a review and a few blocks of the file."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process is read from /proc, which this system does not have")
    file, release, made = tmp_path / "yelp.json", RELEASES["yelp reviews"], rows(3000)
    text = "".join(release.line(row) + "\n" for row in made).replace(json.dumps(TEXT), json.dumps("très bon " * 120))
    with file.open("w") as out:
        for copy in range(100):
            out.write(text.replace('"user_id": "', f'"user_id": "{copy}'))
    assert file.stat().st_size > 400e6
    command = [sys.executable, "-c", MEASURE, str(file), str(tmp_path / "a.cut")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    kilobytes, count = map(int, done.stdout.split())
    assert count > 290_000
    assert kilobytes < 150_000, f"{kilobytes} kB more than before"
