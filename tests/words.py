"""Phrases that readers of the project stumble over, and what to write instead."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Phrase:
    """A pattern of what not to write, and the words to write."""

    pattern: str
    write: str
    allowed: tuple[str, ...] = ()
    """Files that may have it."""


PHRASES = (
    Phrase(r"artefact", "artifact", ("CHANGELOG.md",)),
    Phrase(r"\b(?<!there )(?:is|are) no\b(?! (?:more|less|longer|fewer|larger|smaller)\b)", "is not a, there is no"),
    Phrase(r"\bhas not(?= (?:a|an|the|any|its)\b|[.;,:)])", "does not have"),
    Phrase(r"\bknows (?:none|no)\b", "does not know"),
    Phrase(r"\bhears?\b", "receives, is called with"),
    Phrase(r"\b(?:says?|tells?) of (?:itself|themselves)\b", "reports, describes"),
    Phrase(r"\bstands?\b(?! (?:for|in|out|alone)\b|-)", "is"),
    Phrase(r"\bbeside\b", "next to, compared with"),
    Phrase(r"\bless the (?:other|time)\b", "minus"),
    Phrase(r"\d (?:\w+ )?an? (?:second|user|epoch|token|minute)\b", "per second, per user, per epoch"),
    Phrase(r"\b(?:FLOPs|bytes|milliseconds|seconds) an? (?:second|user|epoch|token|click|minute)\b", "per"),
    Phrase(r"\bgo(?:es)? on\b", "resumes, continues"),
    Phrase(r"\banew\b", "again"),
    Phrase(r"\bdear(?:er|est)?\b", "costly, the most expensive"),
    Phrase(r"\bbeyond doubt\b", "significantly (p < 0.05)"),
    Phrase(r"\bcannot be told from\b", "is not significantly different from"),
    Phrase(r"\bof [\d,]+ at most\b|\bmost epochs\b", "at most N, maximum number of"),
    Phrase(r"\bpublish(?:es)? nothing\b", "does not write an export that fails"),
    Phrase(r"\b(?:a|one) (?:file|row|program|method) an? (?:entry point|user|epoch)\b", "one ... per ..."),
    Phrase(r"\bdevice form\b", "export graph", ("docs/architecture.md",)),
    Phrase(r"\b(?:a|an|the|this|that|own|each|every|same) cut\b(?! (?:off|out|in)\b)", "prepared data set"),
    Phrase(r"\brunner bundle\b", "runner package"),
    Phrase(r"\b(?:phone|cloud)'s half\b", "on-device model (SCN), cloud model (GCN)"),
    Phrase(r"\bwaits? for company\b", "waits to fill a batch"),
    Phrase(r"\b(?:right|wrong) by\b", "correct, incorrect, differs by"),
    # American spelling.
    Phrase(
        r"\b\w*(?:quanti|normali|initiali|vectori|seriali|organi|minimi|maximi|randomi)s(?:e|es|ed|ing|ation)\b",
        "-ize",
    ),
    Phrase(r"\blicences?\b", "license"),
    # The headers of other people's files are spelled as they are.
    Phrase(r"\b(?:colour|behaviour|favour|neighbour)s?\b", "-or", ("cocorrrec_export/data/files/columns.py",)),
)


def found(text: str, name: str) -> list[str]:
    """Every phrase in a text that is not to be written, with its line."""
    problems = []
    for number, line in enumerate(text.splitlines(), start=1):
        for phrase in PHRASES:
            match = re.search(phrase.pattern, line, re.IGNORECASE)
            if match and name not in phrase.allowed:
                problems.append(f"{name}:{number}: '{match[0]}', write: {phrase.write}")
    return problems


def texts(root: Path) -> list[Path]:
    """Every file whose words a user or a contributor reads; raw reports of runs are not among them."""
    patterns = ("*.md", ".github/**/*.*", "docs/*.md", "docs/decisions/*.md", "models/**/*.md", "NOTICE")
    patterns += ("cocorrrec_export/**/*.py", "benchmarks/**/*.py", "examples/*.py", "scripts/*.py", "export_recipes/*")
    return sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})
