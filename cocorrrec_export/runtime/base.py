"""The one interface that parity and profiling see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export.contract import CANDIDATES, CLICK, HISTORY, ID_RULE, EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class ProgramFacts:
    """What a program reports about itself, without a manifest."""

    entry_points: tuple[EntryPoint, ...]
    metadata: dict[str, str | int]


class Runtime(Protocol):
    """A loaded artifact."""

    executed_by: str
    """Which runtime computes, with its version: ``executorch 1.5.1``."""
    entry_points: dict[str, EntryPoint]

    def run(self, entry_point: str, inputs: Arrays) -> Arrays:
        """Run one entry point on arrays of exactly the declared names, dtypes and shapes.

        Raises:
            CocorrrecError: an unknown entry point, inputs that do not fit its contract, ids that are none, or numbers
                that are not finite.
        """
        ...


def check_inputs(
    entry_points: dict[str, EntryPoint], name: str, inputs: Arrays, *, vocab_size: int | None = None
) -> EntryPoint:
    """The contract of an entry point, if ``inputs`` fit it: native runtimes crash on what does not, or answer anyway.

    Args:
        entry_points: the contracts.
        name: of the entry point.
        inputs: what it is to be run on.
        vocab_size: V, as the program's metadata say; None checks ids against no upper end.

    Raises:
        CocorrrecError: every mismatch at once.
    """
    if name not in entry_points:
        raise CocorrrecError(f"no entry point '{name}': this file has {', '.join(entry_points)}")
    contract = entry_points[name]
    problems = [f"unexpected input {extra}" for extra in inputs.keys() - {spec.name for spec in contract.inputs}]
    sizes: dict[str, int] = {}
    for spec in contract.inputs:
        if spec.name not in inputs:
            problems.append(f"missing input {spec.name}")
            continue
        array: Any = inputs[spec.name]
        if not isinstance(array, np.ndarray):
            kind = type(array).__name__
            problems.append(f"{spec.name} is a {kind}, expected a numpy array {spec.dtype} {list(spec.shape)}")
        elif not _fits(spec, array, sizes):
            problems.append(
                f"{spec.name} is {array.dtype} {list(array.shape)}, expected {spec.dtype} {list(spec.shape)}"
            )
        elif spec.name in (HISTORY, CANDIDATES, CLICK):
            problems += [problem] if (problem := id_problem(spec.name, array, vocab_size)) else []
        elif array.dtype.kind == "f" and not np.isfinite(array).all():
            problems.append(f"{spec.name} holds a number that is not finite")
    if problems:
        raise CocorrrecError(f"{name}: " + "; ".join(sorted(problems)))
    return contract


def id_problem(name: str, ids: NDArray[np.generic], vocab_size: int | None) -> str | None:
    """What is wrong with item ids, the first wrong one named; None where nothing is.

    Args:
        name: of the input: a history ``[N, L]`` may end in padding, candidates and clicks hold none.
        ids: whole numbers of any width.
        vocab_size: V; None: no upper end.
    """
    if ids.size == 0:
        return f"{name} is empty: {ID_RULE}"
    end = vocab_size or np.iinfo(np.int32).max
    wrong = (ids < 0) | (ids >= end)  # type: ignore[operator] # ids are numbers
    if name == HISTORY:
        clicks = ids != 0
        wrong[..., :-1] |= ~clicks[..., :-1] & clicks[..., 1:]
    else:
        wrong |= ids == 0
    if not wrong.any():
        return None
    place = tuple(int(n) for n in np.argwhere(wrong)[0])
    known = "" if vocab_size is None else f" (vocab_size {vocab_size})"
    return f"{name} holds {ids[place]} at {list(place)}: {ID_RULE}{known}"


def narrowed(entry_point: str, name: str, ids: NDArray[np.integer], vocab_size: int | None = None) -> NDArray[np.int32]:
    """Item ids as int32, checked before: a wider number would come out as another item.

    Args:
        entry_point: that they are for.
        name: of the input; it and the rest as in :func:`id_problem`.
        ids: whole numbers of any width.
        vocab_size: V; None: no upper end.

    Raises:
        CocorrrecError: ids that are none.
    """
    if problem := id_problem(name, ids, vocab_size):
        raise CocorrrecError(f"{entry_point}: {problem}")
    return ids.astype(np.int32, copy=False)


def _fits(spec: TensorSpec, array: NDArray[np.generic], sizes: dict[str, int]) -> bool:
    """Whether an array is what the contract says; ``sizes`` holds the dynamic dimensions seen so far."""
    fits = array.dtype == spec.dtype and array.ndim == len(spec.shape)
    for want, have in zip(spec.shape, array.shape, strict=False):
        fits &= have == (sizes.setdefault(want, have) if isinstance(want, str) else want)
    return fits


def in_order(contract: EntryPoint, inputs: Arrays) -> list[NDArray[np.generic]]:
    """The inputs as contiguous arrays in the order of the contract."""
    return [np.ascontiguousarray(inputs[spec.name]) for spec in contract.inputs]


def named_outputs(contract: EntryPoint, outputs: Sequence[NDArray[np.generic]]) -> Arrays:
    """Outputs, given in the order of the contract, by their names.

    Raises:
        CocorrrecError: the file returned something else than its contract says.
    """
    if len(outputs) != len(contract.outputs):
        raise CocorrrecError(f"{contract.name} returned {len(outputs)} tensors, expected {len(contract.outputs)}")
    for spec, output in zip(contract.outputs, outputs, strict=True):
        if not _fits(spec, output, {}):
            raise CocorrrecError(
                f"{contract.name} returned {spec.name} as {output.dtype} {list(output.shape)}, "
                f"expected {spec.dtype} {list(spec.shape)}"
            )
    return {spec.name: output for spec, output in zip(contract.outputs, outputs, strict=True)}


def metadata_value(text: str | bytes) -> str | int:
    """A value of a format whose metadata are all strings; bytes are what is not UTF-8 in a damaged file."""
    text = text if isinstance(text, str) else text.decode(errors="replace")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else text


def vocab_size(metadata: Mapping[str, str | int]) -> int | None:
    """V, as a program's metadata say; None where they do not, or no whole number that can be one."""
    value = metadata_value(str(metadata.get("vocab_size", "")))
    return value if isinstance(value, int) and 1 < value <= np.iinfo(np.int32).max else None


def first_line(error: Exception) -> str:
    """What an error of a native runtime says first; the rest is its call stack."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def score_list(
    runtime: Runtime, entry_point: str, inputs: Arrays, candidates: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Scores of any number of candidates: as many calls as the fixed C of the file asks for, the last one padded.

    Args:
        runtime: a loaded artifact.
        entry_point: one that takes ``candidates [1, C]``.
        inputs: its other inputs.
        candidates: ``[n]`` item ids.

    Returns:
        ``[n]`` scores.

    Raises:
        CocorrrecError: no candidates, or ids that are none.
    """
    candidates = np.asarray(candidates)
    if candidates.ndim != 1 or candidates.dtype.kind not in "iu":
        shape = list(candidates.shape)
        raise CocorrrecError(f"{entry_point}: candidates are {candidates.dtype} {shape}, expected whole numbers [n]")
    candidates = narrowed(entry_point, CANDIDATES, candidates)
    spec = next(spec for spec in runtime.entry_points[entry_point].inputs if spec.name == "candidates")
    size = int(spec.shape[1])
    calls = -(-len(candidates) // size)
    padded = np.full(calls * size, candidates[-1], dtype=np.int32)
    padded[: len(candidates)] = candidates
    scores = [
        runtime.run(entry_point, inputs | {"candidates": chunk[None]})["scores"][0]
        for chunk in padded.reshape(-1, size)
    ]
    return np.concatenate(scores)[: len(candidates)].astype(np.float32)
