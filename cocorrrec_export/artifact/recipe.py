"""Recipes: which target, backend and precision, in which shapes, within which limits.

A recipe is a TOML file. The shipped ones are in ``export_recipes/`` and are called
``<target>-<backend>-<precision>.toml`` for the on-device model, with ``gcn-`` in front for the cloud's.
"""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from cocorrrec_export.contract import OF_RECOMMEND, RECOMMEND, ParityLimits
from cocorrrec_export.errors import UsageError, nearest
from cocorrrec_export.modeling.config import ModelConfig, reader_kinds
from cocorrrec_export.resources import RECIPES_DIR
from cocorrrec_export.targets import ALL_TARGETS, TARGETS, Kind, targets_of
from cocorrrec_export.toml import read_toml

Precision = Literal["fp32", "fp16", "int8", "int4", "pq16", "pq8"]
Embedding = Literal["fp32", "fp16", "int8-row", "int4-row", "pq16", "pq8"]
Linear = Literal["fp32", "fp16", "int8-channel"]
Activations = Literal["fp32", "fp16"]
ItemSide = Literal["computed", "folded"]
Scores = Literal["logit", "probability"]

SCN_ENTRY_POINTS = ("encode", "user", "rank", "rank_corrected", "step", "score")
GCN_ENTRY_POINTS = ("correct",)
MAX_CANDIDATES = 10_000
MAX_RECOMMENDED = 1000

_EMBEDDING_OF = {
    "fp32": "fp32",
    "fp16": "fp16",
    "int8": "int8-row",
    "int4": "int4-row",
    "pq16": "pq16",
    "pq8": "pq8",
}
_SCN_ONLY = ("entry_points", "item_side", "scores", "shapes", "weights.embedding")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A checked recipe file."""

    name: str
    kind: Kind
    target: str
    backend: str
    precision: Precision
    embedding: Embedding = "fp32"
    linear: Linear = "fp32"
    activations: Activations = "fp32"
    candidates: int = 0
    """C: candidates of one call; a longer list takes more calls. 0 in a GCN recipe, which has none."""
    recommend: int = 0
    """K: the best items of the whole catalog that the entry point ``recommend`` gives; 0 leaves it out."""
    item_side: ItemSide = "computed"
    scores: Scores = "logit"
    """What the phone's entry points give: the model's scores as they are, or their sigmoids. The order is the same,
    but float32 makes all sigmoids of logits above 17 the same number, float16 those above 8."""
    entry_points: tuple[str, ...] = GCN_ENTRY_POINTS
    limits: ParityLimits
    shipped: bool = False
    """Comes with the toolkit, for every architecture: each takes of ``entry_points`` those that it has."""

    def __post_init__(self) -> None:
        problems = _inconsistencies(self)
        if problems:
            raise UsageError(f"recipe {self.name}: " + "; ".join(problems))

    def folder(self, architecture: str) -> str:
        """What the folder of an export is called: ``scn-executorch-int8``, ``gcn-onnx-fp32``, ``din-tflite-fp32``."""
        return f"{folder_prefix(self.kind, architecture)}-{self.target}-{self.precision}"

    @property
    def file_name(self) -> str:
        """What the recipe's own file must be called where it ships."""
        return f"{'gcn-' if self.kind == 'gcn' else ''}{self.target}-{self.backend}-{self.precision}.toml"

    def with_candidates(self, candidates: int | None) -> "Recipe":
        """The same recipe for another number of candidates; None changes nothing."""
        return self if candidates is None else dataclasses.replace(self, candidates=candidates)

    def with_recommend(self, count: int | None) -> "Recipe":
        """The same recipe with the entry point ``recommend`` for ``count`` items, 0 without; None changes nothing."""
        if count is None:
            return self
        names = tuple(name for name in self.entry_points if name != RECOMMEND)
        return dataclasses.replace(self, recommend=count, entry_points=(*names, RECOMMEND) if count else names)

    def as_table(self) -> dict[str, Any]:
        """What the manifest says of the recipe, in the layout of the file."""
        table: dict[str, Any] = {key: getattr(self, key) for key in ("name", "kind", "target", "backend", "precision")}
        weights: dict[str, str] = {"linear": self.linear, "activations": self.activations}
        if self.kind == "scn":
            table |= {"entry_points": list(self.entry_points), "item_side": self.item_side, "scores": self.scores}
            table["shapes"] = {"candidates": self.candidates}
            if self.recommend:
                table["shapes"]["recommend"] = self.recommend
            weights["embedding"] = self.embedding
        limits = dataclasses.asdict(self.limits)
        asked = {key: value for key, value in limits.items() if value or key not in OF_RECOMMEND}
        return table | {"weights": weights, "parity": asked}


def folder_prefix(kind: str, architecture: str) -> str:
    """What the names of exports' folders start with: the half of a CoCorrRec, or the architecture of a baseline."""
    return kind if architecture == "cocorrrec" else architecture


def _inconsistencies(recipe: Recipe) -> list[str]:
    problems = []
    if recipe.kind == "scn":
        if not 1 <= recipe.candidates <= MAX_CANDIDATES:
            problems.append(f"shapes.candidates must be 1 to {MAX_CANDIDATES}, got {recipe.candidates}")
        if not 0 <= recipe.recommend <= MAX_RECOMMENDED:
            problems.append(f"shapes.recommend must be 1 to {MAX_RECOMMENDED}, or 0 for none, got {recipe.recommend}")
        if recipe.embedding != _EMBEDDING_OF[recipe.precision]:
            problems.append(
                f"precision '{recipe.precision}' means weights.embedding '{_EMBEDDING_OF[recipe.precision]}', "
                f"got '{recipe.embedding}'"
            )
    elif (recipe.precision, recipe.linear, recipe.activations) != ("fp32", "fp32", "fp32"):
        problems.append(f"the GCN is exported in fp32 alone, got precision '{recipe.precision}'")
    backends = _backends(recipe.kind, recipe.target)
    if recipe.backend not in backends:
        problems.append(
            f"no backend '{recipe.backend}' for {recipe.kind} on {recipe.target}"
            + (f" ({nearest(recipe.backend, backends)})" if backends else f": {_what_exists(recipe.kind)}")
        )
    return problems


def _what_exists(kind: Kind) -> str:
    targets = sorted(row.name for row in targets_of(kind))
    return f"this version exports the {kind} to {', '.join(targets)}"


def _reader_values(config: ModelConfig) -> int:
    """Weights of the networks of a cloud that answers with a vector."""
    D = config.hidden_size
    state = 2 * D
    block = 12 * D * D + 13 * D  # attention, feed-forward network, and two norms
    of = {
        "attention": 2 * block + D * D + D + config.cloud_length * D,
        "gru": 3 * state * (D + state + 2) + D * state + 3 * D,  # a GRU, a layer, and two norms
    }
    older = max(1, config.cloud_length - config.sequence_length)
    of["recall"] = of["gru"] + D * (state + 3 * D) + 5 * D + config.num_heads * older  # four layers, a norm, distances
    return sum(of[kind] for kind in reader_kinds(config.cloud_reader, config.cloud_networks))


def expected_bytes(recipe: Recipe, config: ModelConfig) -> int:
    """About how large the program will be: weights exactly, graphs as they came out for the shipped models."""
    D, h, K = config.hidden_size, config.num_heads, config.mini_batch
    graphs = TARGETS[recipe.target].programs[recipe.kind].graph_bytes
    if recipe.kind == "gcn":
        if config.correction == "vector":
            return 4 * (config.vocab_size * D + _reader_values(config)) + graphs
        gru, layers = 6 * D * D + 6 * D, 2 * D * D
        return 4 * (2 * (gru + layers) + D * h * K * K + D * K * D) + graphs
    row = {"fp32": 4 * D, "fp16": 2 * D, "int8-row": D + 2, "int4-row": D // 2 + 2, "pq16": 17, "pq8": 8}[
        recipe.embedding
    ]
    codebooks = 256 * D + 4 * D * D if recipe.embedding.startswith("pq") else 0
    tables = (config.vocab_size * row + codebooks) * (2 if recipe.item_side == "folded" else 1)
    tower = config.item_side == "mlp" and recipe.item_side == "computed"
    projections = (6 if tower else 4) * D * D
    each = {"fp32": 4, "fp16": 2, "int8-channel": 1}[recipe.linear]
    return tables + projections * each + graphs


class _Reader:
    """Takes values out of nested tables and remembers everything that is wrong with them."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.table = table
        self.problems: list[str] = []
        self.known: set[str] = set()

    def choice(self, key: str, choices: Iterable[str], default: str = "", *, optional: str | None = None) -> Any:
        if optional is not None and not self._has(key):
            return optional
        value = self._take(key, str, "a string")
        choices = tuple(choices)
        if value is not None and value not in choices:
            self.problems.append(f"{key}: unknown value '{value}' ({nearest(value, choices)})")
            value = None
        return default if value is None else value

    def integer(self, key: str, low: int, high: int, *, optional: int | None = None) -> int:
        if optional is not None and not self._has(key):
            return optional
        value = self._take(key, int, "a whole number")
        if value is not None and not low <= value <= high:
            self.problems.append(f"{key} must be {low} to {high}, got {value}")
        return low if value is None else value

    def number(self, key: str, low: float, high: float, *, optional: float | None = None) -> float:
        if optional is not None and not self._has(key):
            return optional
        value = self._take(key, (int, float), "a number")
        if value is not None and not (math.isfinite(value) and low <= value <= high):
            self.problems.append(f"{key} must be {low:g} to {high:g}, got {value}")
        return low if value is None else float(value)

    def subset(self, key: str, choices: tuple[str, ...]) -> tuple[str, ...]:
        values = self._take(key, list, "a list of strings")
        if values is None:
            return choices
        for value in values:
            if value not in choices:
                self.problems.append(f"{key}: unknown entry point {value!r} ({nearest(str(value), choices)})")
        if not values or len(set(map(str, values))) != len(values):
            self.problems.append(f"{key} must name each entry point once and at least one, got {values}")
        return tuple(x for x in choices if x in values)

    def _has(self, key: str) -> bool:
        """Whether a key that may be absent is there; it is known from then on."""
        self.known.add(key)
        value: Any = self.table
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                return False
            value = value[part]
        return True

    def _take(self, key: str, kind: type | tuple[type, ...], words: str) -> Any:
        self.known.add(key)
        value: Any = self.table
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                self.problems.append(f"missing key '{key}'")
                return None
            value = value[part]
        if not isinstance(value, kind) or isinstance(value, bool):
            self.problems.append(f"{key} must be {words}, got {value!r}")
            return None
        return value

    def report_unknown(self, *, not_for: tuple[str, ...] = ()) -> None:
        groups = {key.split(".")[0] for key in self.known if "." in key}
        for key, value in self.table.items():
            if key in groups and isinstance(value, dict):
                for inner in value:
                    self._unknown(f"{key}.{inner}", not_for)
            elif key in groups:
                self.problems.append(f"'{key}' must be a table, got {value!r}")
            else:
                self._unknown(key, not_for)

    def _unknown(self, key: str, not_for: tuple[str, ...]) -> None:
        if key in not_for:
            self.problems.append(f"key '{key}' has no meaning in a GCN recipe: remove it")
        elif key not in self.known:
            self.problems.append(f"unknown key '{key}' ({nearest(key, self.known)})")


def load_recipe(path: Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        UsageError: everything that is wrong with it, each with its key.
        CocorrrecError: it is not TOML.
    """
    reader = _Reader(read_toml(path))
    kind = reader.choice("kind", get_args(Kind), "scn")
    target = reader.choice("target", TARGETS)
    fields: dict[str, Any] = {
        "name": path.stem,
        "kind": kind,
        "target": target,
        "backend": reader.choice("backend", _backends(kind, target) or _all_backends()),
        "precision": reader.choice("precision", get_args(Precision)),
        "linear": reader.choice("weights.linear", get_args(Linear)),
        "activations": reader.choice("weights.activations", get_args(Activations)),
        "limits": ParityLimits(
            max_abs=reader.number("parity.max_abs", 0, 100),
            max_rel=reader.number("parity.max_rel", 0, 1),
            top10_overlap=reader.number("parity.top10_overlap", 0, 1),
            metrics_abs=reader.number("parity.metrics_abs", 0, 1),
            ndcg10_rel=reader.number("parity.ndcg10_rel", 0, 1),
            recommend_overlap=reader.number("parity.recommend_overlap", 0, 1, optional=ParityLimits.recommend_overlap),
            recommend_order=reader.number("parity.recommend_order", 0, 1, optional=ParityLimits.recommend_order),
            ties=reader.number("parity.ties", 0, 1, optional=ParityLimits.ties),
        ),
    }
    if kind == "scn":
        fields |= {
            "embedding": reader.choice("weights.embedding", get_args(Embedding)),
            "candidates": reader.integer("shapes.candidates", 1, MAX_CANDIDATES),
            "item_side": reader.choice("item_side", get_args(ItemSide)),
            "scores": reader.choice("scores", get_args(Scores), optional="logit"),
            "entry_points": reader.subset("entry_points", SCN_ENTRY_POINTS),
        }
    count = reader.integer("shapes.recommend", 0, MAX_RECOMMENDED, optional=0) if kind == "scn" else None
    reader.report_unknown(not_for=_SCN_ONLY if kind == "gcn" else ())
    if reader.problems:
        raise UsageError(f"{path}: " + "; ".join(reader.problems))
    try:
        return Recipe(**fields).with_recommend(count)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _all_backends() -> list[str]:
    return sorted({x for row in TARGETS.values() for program in row.programs.values() for x in program.backends})


def _backends(kind: Kind, target: str) -> tuple[str, ...]:
    programs = TARGETS[target].programs if target in TARGETS else {}
    return programs[kind].backends if kind in programs else ()


def shipped_recipes() -> list[Recipe]:
    """Every recipe that ships, in the order of their names.

    Raises:
        UsageError: one of them is wrong, or its file is not called after its content.
    """
    recipes = []
    for path in sorted(RECIPES_DIR.glob("*.toml")):
        recipe = load_recipe(path)
        if path.name != recipe.file_name:
            raise UsageError(
                f"{path}: its content is that of {recipe.file_name}; rename the file or correct the content"
            )
        recipes.append(dataclasses.replace(recipe, shipped=True))
    return recipes


def shipped_recipe(name: str) -> Recipe:
    """The shipped recipe called ``name``.

    Raises:
        UsageError: there is none; the message lists those there are.
    """
    recipes = {recipe.name: recipe for recipe in shipped_recipes()}
    if name not in recipes:
        raise UsageError(f"unknown recipe '{name}' ({nearest(name, recipes)})")
    return recipes[name]


def choose_recipe(kind: Kind, target: str, *, precision: str | None = None, recipe_file: Path | None = None) -> Recipe:
    """The recipe that a command asks for: the user's file, or the shipped one of a target and precision.

    Args:
        kind: which half of the model.
        target: where it is to run.
        precision: picks a shipped recipe; ``fp32`` by default.
        recipe_file: the user's own recipe; excludes ``precision``.

    Raises:
        UsageError: no such target or precision, both given, or a recipe of something else.
    """
    names = [row.name for row in targets_of(kind)]
    if target not in names:
        known = [*names, ALL_TARGETS] if kind == "scn" else names
        raise UsageError(f"unknown target '{target}' for the {kind} ({nearest(target, known)})")
    if recipe_file is not None:
        if precision is not None:
            raise UsageError("--precision picks a shipped recipe and --recipe gives your own: give one of them")
        recipe = load_recipe(recipe_file)
        if (recipe.kind, recipe.target) != (kind, target):
            raise UsageError(
                f"{recipe_file} is a recipe for the {recipe.kind} on {recipe.target}, not for the {kind} on {target}"
            )
        return recipe
    shipped = [recipe for recipe in shipped_recipes() if (recipe.kind, recipe.target) == (kind, target)]
    precisions: dict[str, Recipe] = {recipe.precision: recipe for recipe in shipped}
    wanted = precision or "fp32"
    if wanted in precisions:
        return precisions[wanted]
    raise UsageError(f"no shipped recipe takes the {kind} to {target} in '{wanted}' ({nearest(wanted, precisions)})")


def require_codes(recipe: Recipe) -> None:
    """Check that a recipe stores the item table as codes that can be calibrated.

    Raises:
        UsageError: it does not.
    """
    if not recipe.embedding.startswith("pq"):
        raise UsageError(
            f"--calibrate trains the codes of product quantization, and precision '{recipe.precision}' has none: give "
            "--precision pq16 or pq8, or leave --calibrate out"
        )
    if recipe.item_side == "folded":
        raise UsageError(
            f"--calibrate trains the codes of the model's own table, and recipe {recipe.name} stores a second one "
            "(item_side 'folded'): use item_side 'computed'"
        )


def choose_recipes(kind: Kind, target: str, precision: str | None, recipe_file: Path | None) -> list[Recipe]:
    """The recipe of :func:`choose_recipe`; for the target ``all`` one of each target.

    Raises:
        UsageError: as there, or a recipe file was given for all targets.
    """
    if target != ALL_TARGETS:
        return [choose_recipe(kind, target, precision=precision, recipe_file=recipe_file)]
    if recipe_file is not None:
        raise UsageError("a recipe is for one target: name it instead of 'all'")
    return [choose_recipe(kind, each, precision=precision) for each in (row.name for row in targets_of(kind))]
