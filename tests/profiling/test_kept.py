"""What was measured is kept, and what is not a report of ours is not replaced by one."""

import json
import re
from pathlib import Path

import pytest

from cocorrrec_export.cli import console
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.files import publish_directory
from cocorrrec_export.profiling.kept import keep_on_failure
from cocorrrec_export.profiling.report.document import write_profile
from cocorrrec_export.profiling.report.page import owned_files
from tests.profiling.profiles import small_profile


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError("[/x]"), KeyboardInterrupt()])
def test_figures_are_kept_whatever_fails_after_them(error: BaseException) -> None:
    def work() -> None:
        with keep_on_failure() as kept:
            kept.figures = {"p50_us": [1.5, float("inf")], "path": Path("a")}
            raise error

    with pytest.raises(CocorrrecError, match="what was measured until then is kept in") as raised:
        work()
    found = re.search(r"kept in (\S+)$", str(raised.value))
    assert found and json.loads(Path(found[1]).read_text())["p50_us"][0] == 1.5


def test_before_there_are_figures_an_error_is_what_it_was() -> None:
    with pytest.raises(ValueError, match="early"), keep_on_failure():
        raise ValueError("early")


@pytest.mark.parametrize("name", ["notes.txt", "plots/mine.svg"])
def test_a_report_replaces_a_report_and_nothing_else(tmp_path: Path, name: str) -> None:
    place = tmp_path / "results"
    for _ in range(2):
        with publish_directory(place, owned_files) as staging:
            write_profile(staging, small_profile())
    (place / "plots").mkdir()
    (place / name).write_text("mine")
    with pytest.raises(UsageError, match="did not write"), publish_directory(place, owned_files):
        pytest.fail("it was measured")
    assert (place / name).read_text() == "mine"
    (place / name).unlink()
    (place / "profile.json").write_text("{}")  # somebody else's
    with pytest.raises(UsageError, match="did not write"), publish_directory(place, owned_files):
        pytest.fail("it was measured")


def test_ctrl_c_that_a_library_turns_into_an_error_of_its_own_is_an_interruption() -> None:
    import signal

    def work() -> None:
        with console.steps() as step:
            step("tracing")
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise RuntimeError("a hundred lines of a tracer") from None

    with pytest.raises(KeyboardInterrupt):
        work()
