"""Inputs and the float32 model's outputs: what a file, on a host or on a phone, is compared with.

In ``vectors.safetensors`` a tensor is called ``<entry point>.<case>.in.<index>.<name>`` or ``....out.<index>.<name>``,
``index`` being its place in the manifest's contract.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cocorrrec_export.arrays import read_arrays, write_arrays
from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.runtime.base import Arrays


@dataclass(frozen=True)
class Case:
    """One call of one entry point."""

    entry_point: str
    name: str
    inputs: Arrays
    expected: Arrays
    """Of the plain float32 model."""


def write_vectors(path: Path, cases: Iterable[Case], entry_points: dict[str, EntryPoint]) -> None:
    """Write cases, in the dtypes of the contract."""
    arrays: Arrays = {}
    for case in cases:
        contract = entry_points[case.entry_point]
        for side, specs, values in (("in", contract.inputs, case.inputs), ("out", contract.outputs, case.expected)):
            for index, spec in enumerate(specs):
                key = f"{case.entry_point}.{case.name}.{side}.{index}.{spec.name}"
                arrays[key] = values[spec.name].astype(spec.dtype)
    write_arrays(arrays, path)


def read_vectors(path: Path, entry_points: dict[str, EntryPoint], *, sha256: str | None = None) -> list[Case]:
    """Read a file of :func:`write_vectors`; ``sha256`` is what its digest must be, if that is known.

    Raises:
        CocorrrecError: not such a file, or one for other entry points.
    """
    cases: dict[tuple[str, str], Case] = {}
    for key, value in read_arrays(path, sha256=sha256).items():
        parts = key.split(".")
        if len(parts) != 5 or parts[2] not in ("in", "out") or parts[0] not in entry_points:
            raise CocorrrecError(f"{path}: {key!r} is not a test vector of {', '.join(entry_points)}")
        entry_point, name, side, _, tensor = parts
        case = cases.setdefault((entry_point, name), Case(entry_point, name, {}, {}))
        (case.inputs if side == "in" else case.expected)[tensor] = value
    if not cases:
        raise CocorrrecError(f"{path}: holds no test vectors")
    for case in cases.values():
        contract = entry_points[case.entry_point]
        for specs, values in ((contract.inputs, case.inputs), (contract.outputs, case.expected)):
            _check_against_contract(f"{path}: {case.entry_point}.{case.name}", specs, values)
    return list(cases.values())


def _check_against_contract(where: str, specs: tuple[TensorSpec, ...], values: Arrays) -> None:
    if values.keys() != {spec.name for spec in specs}:
        raise CocorrrecError(f"{where}: holds {sorted(values)}, expected {sorted(spec.name for spec in specs)}")
    for spec in specs:
        shape, value = spec.shape, values[spec.name]
        fits = value.dtype == spec.dtype and value.ndim == len(shape)
        if not fits or any(isinstance(n, int) and n != m for n, m in zip(shape, value.shape, strict=True)):
            raise CocorrrecError(
                f"{where}: {spec.name} is {value.dtype} {list(value.shape)}, expected {spec.dtype} {list(shape)}"
            )
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise CocorrrecError(f"{where}: {spec.name} holds a number that is not finite")
