"""The published schema: checked the same by us and by another validator, and explained in the docs."""

import copy
import json
import random
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cocorrrec_export import schema as ours
from cocorrrec_export.resources import MANIFEST_SCHEMA
from tests.conftest import ROOT

SCHEMA = json.loads(MANIFEST_SCHEMA.read_text())
SHA = "0" * 64
TENSOR = {"name": "H", "dtype": "float32", "shape": ["N", 10, 64]}
MANIFEST = {
    "schema_version": 2,
    "kind": "gcn",
    "target": "onnx",
    "precision": "fp32",
    "recipe": {
        "name": "gcn-onnx-cpu-fp32",
        "kind": "gcn",
        "target": "onnx",
        "backend": "cpu",
        "precision": "fp32",
        "weights": {"linear": "fp32", "activations": "fp32"},
        "parity": dict.fromkeys(("max_abs", "max_rel", "top10_overlap", "metrics_abs", "ndcg10_rel"), 0.5),
    },
    "toolkit_version": "0.1.0",
    "backends": {"onnx": "1.23.2"},
    "model": {"name": "tiny", "architecture": "cocorrrec", "parameters": 5, "sha256": SHA},
    "entry_points": [{"name": "correct", "inputs": [TENSOR], "outputs": [TENSOR | {"name": "k_b"}]}],
    "files": [{"path": "gcn.onnx", "bytes": 3, "sha256": SHA}],
    "parity": {
        "verdict": "pass",
        "executed_by": "onnxruntime 1.31.1",
        "tensors": {"max_abs": 0.1, "max_rel": 0, "top10_overlap": 1},
        "ranking": {
            "users": 3,
            "metrics": None,
            "metrics_corrected": {"hr@5": {"eager": 0.1, "artifact": 0.2}},
            "reason": None,
            "full": {
                "users": 2,
                "metrics": None,
                "metrics_corrected": {"mrr": {"eager": 0.1, "artifact": 0.2, "standard_error": 0.01}},
            },
        },
    },
    "flops_per_token": {"paper": 5, "all": 6},
    "flops": {"rank": {"call": 9, "per_token": None, "elementwise": 4, "elementwise_per_token": 3}},
    "memory": {"planned_bytes": {}},
}
VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    1.5,
    10**12,
    "",
    "N",
    "fp32",
    "gcn",
    SHA,
    SHA + "\n",
    [],
    ["x"],
    {},
    {"a": 1},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def parent_of(manifest: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        manifest = manifest[key]
    return manifest


def mutations() -> list[Any]:
    """Every value replaced by each of a few, every key removed, every object given one more."""
    made: list[Any] = []
    for path in places(MANIFEST)[1:]:
        for value in VALUES:
            made.append(copy.deepcopy(MANIFEST))
            parent_of(made[-1], path)[path[-1]] = value
        made.append(copy.deepcopy(MANIFEST))
        del parent_of(made[-1], path)[path[-1]]
        made.append(copy.deepcopy(MANIFEST))
        target = parent_of(made[-1], (*path, None))
        if isinstance(target, dict):
            target["more"] = 1
    return made


def test_we_refuse_exactly_what_another_validator_refuses() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    assert ours.problems(MANIFEST, SCHEMA) == []
    refused = 0
    for manifest in mutations():
        theirs, mine = validator.is_valid(manifest), not ours.problems(manifest, SCHEMA)
        if "\\n" in json.dumps(manifest):
            continue  # Python's $ lets a final newline pass; we do not
        assert theirs == mine, json.dumps(manifest)
        refused += not mine
    assert refused > 500


def test_what_json_schema_libraries_let_pass() -> None:
    for value in (SHA + "\n", float("nan")):
        manifest = copy.deepcopy(MANIFEST)
        manifest["model"]["sha256"] = value  # type: ignore[index]
        assert ours.problems(manifest, SCHEMA)
    manifest = copy.deepcopy(MANIFEST)
    manifest["parity"]["tensors"]["max_abs"] = float("nan")  # type: ignore[index]
    assert ours.problems(manifest, SCHEMA) == ["parity.tensors.max_abs must be at least 0, got nan"]


def test_a_hostile_manifest_gets_a_short_answer() -> None:
    wild = {str(random.Random(i).random()) * 50: "x" * 10_000 for i in range(1000)}
    answer = ours.problems(wild, SCHEMA)
    assert len(answer) == ours.MAX_PROBLEMS
    assert all(len(line) < 200 for line in answer)


@pytest.mark.parametrize(
    ("last", "expected"),
    [(5, []), ("a", ["[3000000] must be integer, got 'a'"]), (-1, ["[3000000] must be at least 0, got -1"])],
)
def test_millions_of_samples_are_checked_in_time(last: object, expected: list[str]) -> None:
    schema = {"$ref": "#/$defs/samples", "$defs": {"samples": {"type": "array", "items": {"$ref": "#/$defs/count"}}}}
    schema["$defs"]["count"] = {"type": "integer", "minimum": 0}  # type: ignore[index]
    start = time.process_time()
    assert ours.problems([1] * 3_000_000 + [last], schema) == expected
    assert ours.problems([True, *[1] * 10, 1.0, 2**70], schema)[:1] == ["[0] must be integer, got True"]
    assert time.process_time() - start < 10


def test_a_keyword_that_is_not_checked_is_an_error() -> None:
    with pytest.raises(ValueError, match="uniqueItems"):
        ours.problems([1], {"type": "array", "uniqueItems": True})


def test_the_page_explains_every_key() -> None:
    page = (ROOT / "docs" / "manifest.md").read_text()
    parity = SCHEMA["$defs"]["parity"]["properties"]
    keys = [
        *SCHEMA["properties"],
        "verdict",
        "executed_by",
        *SCHEMA["$defs"]["recipe"]["properties"]["parity"]["properties"],
    ]
    keys += [f"tensors.{key}" for key in parity["tensors"]["properties"]]
    keys += [f"ranking.{key}" for key in parity["ranking"]["properties"]]
    assert [key for key in keys if f"`{key}`" not in page] == []


def keywords(schema: dict[str, Any]) -> set[str]:
    """Of a schema and of all in it."""
    inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    inner += [schema[name] for name in ("items", "additionalProperties") if isinstance(schema.get(name), dict)]
    return schema.keys() | {keyword for each in inner for keyword in keywords(each)}


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.schema.json")), ids=lambda path: path.name)
def test_every_keyword_of_a_published_schema_is_checked(path: Path) -> None:
    """Those of optional parts too, which few documents have."""
    assert keywords(json.loads(path.read_text())) <= ours._CHECKED | ours._DESCRIPTIVE
