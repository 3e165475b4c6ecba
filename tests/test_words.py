"""The project's texts use the field's words: see ``tests/words.py``."""

import pytest

from tests.conftest import ROOT
from tests.words import found, texts


def test_no_text_has_a_phrase_that_readers_stumble_over() -> None:
    paths = texts(ROOT)
    assert len(paths) > 100
    named = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    problems = [problem for name, text in named.items() for problem in found(text, name)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    "text",
    [
        "This is no ONNX model.",
        "something that the file has not, such as a step",
        "an epoch takes 3 seconds a user",
        "16.6 s an epoch",
        "the cloud's half answers",
        "It hears of every step.",
        "the numbers stand on one line",
        "Beyond doubt better",
        "the best of 20 at most",
        "It writes the cut.",
        "weights are quantised",
    ],
)
def test_phrases_are_found(text: str) -> None:
    assert found(text, "page.md")


@pytest.mark.parametrize(
    "text",
    [
        "There is no model, and there are no users.",
        "It has not run on a phone yet.",
        "It stands for the model; besides, a stand-in.",
        "is no more than 3",
        "a user and an epoch",
        "cut off",
    ],
)
def test_plain_words_are_left_alone(text: str) -> None:
    assert not found(text, "page.md")
