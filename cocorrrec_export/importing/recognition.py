"""Which layout the tensors of a file have, and the config of the model that they are the weights of."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from cocorrrec_export.errors import CocorrrecError, UsageError, listed, nearest
from cocorrrec_export.importing.layouts import LAYOUTS, Layout, fixed_values
from cocorrrec_export.importing.own import PLAIN, own_config
from cocorrrec_export.importing.rules import to_ours, to_theirs
from cocorrrec_export.modeling.build import build_model
from cocorrrec_export.modeling.config import ModelConfig

_SHOWN = 4
"""Tensors that an error names of each kind."""
_LONGEST = 120
"""Characters of each."""


@dataclass(frozen=True)
class Recognized:
    """A file's weights as a model of ours."""

    layout: str
    title: str
    config: ModelConfig
    tensors: dict[str, Tensor]
    """By our names."""
    assumed: dict[str, Any] = field(default_factory=dict)
    """Keys of the config that no tensor tells and nobody gave: the library's defaults."""


@dataclass(frozen=True)
class _Comparison:
    """The names of a file against those of a layout."""

    layout: Layout
    tensors: dict[str, Tensor]
    """Without what all their names begin with."""
    sizes: dict[str, Any] | None
    missing: list[str]
    unexpected: list[str]

    @property
    def distance(self) -> int:
        return len(self.missing) + len(self.unexpected)


def layout_names() -> list[str]:
    """Every name of a layout."""
    return sorted({PLAIN, *(name for each in LAYOUTS for name in (each.name, *each.aliases))})


def recognize(
    path: Path,
    tensors: dict[str, Tensor],
    options: dict[str, Any],
    *,
    layout: str | None = None,
    architecture: str | None = None,
) -> Recognized:
    """Tell a layout by its tensors, and turn them into those of a model of ours.

    Args:
        path: the file, for errors and for the config that a file of ours carries.
        tensors: all that it holds, in float32.
        options: keys of a config that the user knows and no tensor tells.
        layout: the only one to try.
        architecture: the only one to try.

    Raises:
        UsageError: no such layout, or options that the layout does not have.
        CocorrrecError: no layout fits: the nearest one, and the tensors that are missing, unexpected or misshapen.
    """
    if layout is not None and layout not in layout_names():
        raise UsageError(f"unknown layout '{layout}' ({nearest(layout, layout_names())})")
    config = own_config(path, tensors, options) if layout in (None, PLAIN) else None
    if config is not None and architecture in (None, config.architecture):
        return Recognized(PLAIN, f"our own {config.architecture}", config, tensors)
    rows = [
        row for row in LAYOUTS if layout in (None, row.name, *row.aliases) and architecture in (None, row.architecture)
    ]
    if not rows:
        raise CocorrrecError(
            f"{path}: not weights of our own{f' {architecture}' if architecture else ''}: {_held(tensors)}"
        )
    best = min((_compare(row, part) for part in _without_prefixes(tensors) for row in rows), key=lambda x: x.distance)
    if best.sizes is None or best.distance:
        raise CocorrrecError(_unknown(path, tensors, best))
    return _as_ours(path, best, best.sizes, options)


def _without_prefixes(tensors: dict[str, Tensor]) -> Iterable[dict[str, Tensor]]:
    """The tensors, and again without each word that all their names begin with, such as ``model.`` or ``module.``."""
    yield tensors
    while len(words := {name.partition(".")[0] for name in tensors}) == 1 and all("." in name for name in tensors):
        prefix = words.pop() + "."
        tensors = {name.removeprefix(prefix): x for name, x in tensors.items()}
        yield tensors


def _compare(layout: Layout, tensors: dict[str, Tensor]) -> _Comparison:
    try:
        sizes = layout.sizes(tensors)
        config = _config(layout, sizes | {"num_heads": sizes.get("num_heads", 1)}, {})
    except (KeyError, IndexError, ValueError, UsageError):
        sizes, config = None, _config(layout, {"vocab_size": 4} | layout.layers(tensors), {})
    expected = layout.names(config)
    unexpected = [name for name in tensors if name not in expected and not re.fullmatch(layout.ignored, name)]
    return _Comparison(layout, tensors, sizes, sorted(expected - tensors.keys()), sorted(unexpected))


def _config(layout: Layout, sizes: dict[str, Any], options: dict[str, Any]) -> ModelConfig:
    values = fixed_values(layout) | layout.assumed | sizes | options
    return ModelConfig(architecture=layout.architecture, **values)


def _as_ours(path: Path, found: _Comparison, sizes: dict[str, Any], options: dict[str, Any]) -> Recognized:
    layout = found.layout
    _check_options(layout, sizes, options)
    try:
        config = _config(layout, sizes, options)
    except UsageError as error:
        raise UsageError(f"{path}, as {layout.title}: {error}") from None
    rules = layout.rules(config)
    expected = to_theirs(rules, build_model(config).state_dict())
    wrong = [
        f"{name} is {list(found.tensors[name].shape)}, expected {list(x.shape)}"
        for name, x in expected.items()
        if found.tensors[name].shape != x.shape
    ]
    if wrong:
        raise CocorrrecError(f"{path}: tensors of {layout.title}, but {_some('misshapen', wrong)}")
    infinite = [name for name in expected if not bool(found.tensors[name].isfinite().all())]
    if infinite:
        raise CocorrrecError(f"{path}: {_some('with values that are not finite', infinite)}")
    ours = to_ours(rules, {name: found.tensors[name] for name in expected})
    assumed = {key: getattr(config, key) for key in (*layout.assumed, *layout.choices) if key not in options}
    return Recognized(layout.name, layout.title, config, ours, assumed)


def _check_options(layout: Layout, sizes: dict[str, Any], options: dict[str, Any]) -> None:
    free = (*layout.assumed, *layout.choices)
    for key, value in options.items():
        flag = "--" + key.replace("_", "-")
        if key in free or value == sizes.get(key):
            continue
        if key in sizes:
            raise UsageError(f"{flag} {value}: the tensors of {layout.title} say {sizes[key]}; leave the option out")
        takes = ", ".join("--" + name.replace("_", "-") for name in free) or "none"
        raise UsageError(f"{flag} has no meaning for {layout.title}; options that it takes: {takes}")


def _unknown(path: Path, tensors: dict[str, Tensor], best: _Comparison) -> str:
    expected = best.layout.names(_config(best.layout, {"vocab_size": 4}, {}))
    if len(best.missing) >= len(expected):  # nothing in common
        return f"{path}: not a layout that is known: {_held(tensors)}. Known are {_titles()}"
    parts = [
        _some(kind, names) for kind, names in (("missing", best.missing), ("unexpected", best.unexpected)) if names
    ]
    if not parts:
        parts = [f"the shape of {best.layout.table} or of a layer's weight is not that of a matrix"]
    return f"{path}: not a layout that is known. Nearest: {best.layout.title}, with " + "; ".join(parts)


def _some(kind: str, tensors: Sequence[str]) -> str:
    """A few tensors of one kind, and how many there are."""
    shown = "; ".join("".join(c if c.isprintable() else "?" for c in text[:_LONGEST]) for text in tensors[:_SHOWN])
    more = "; ..." if len(tensors) > _SHOWN else ""
    return f"{len(tensors)} {'tensor' if len(tensors) == 1 else 'tensors'} {kind}: {shown}{more}"


def _held(tensors: dict[str, Tensor]) -> str:
    return f"{len(tensors)} tensors, {listed(tensors, count=_SHOWN)}"


def _titles() -> str:
    return ", ".join([*(row.title for row in LAYOUTS), "our own"])
