"""Targets: one row for each, with everything that differs between them as plain data.

The exporter of a target is the module ``export/<target>.py``, its runtime ``runtime/<target>.py``; each follows the
Protocol that :mod:`cocorrrec_export.export.exporter` and :mod:`cocorrrec_export.runtime.open` define. A target that is
measured by a worker in Python has ``profiling/machines/<target>_worker.py``.
"""

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from cocorrrec_export.errors import UsageError, nearest

PACKAGE = "cocorrrec_export"
ALL_TARGETS = "all"
"""Stands for every target on the command line."""
Kind = Literal["scn", "gcn"]
"""The on-device model, and the cloud model."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """The exported file of one kind."""

    name: str
    """Without a suffix it is a folder with one file per entry point."""
    backends: tuple[str, ...]
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8", "int4", "pq16", "pq8")
    graph_bytes: int
    """Graphs and small constants, as measured; they hardly depend on the model."""


@dataclass(frozen=True, kw_only=True)
class NativeRunner:
    """What the program that runs files of a target on phones is built from."""

    name: str
    distribution: str
    """On the package index; its wheel holds the libraries."""
    sources: tuple[str, ...]
    """The program first."""
    folder: str
    """Of the libraries, inside the wheel."""
    linked: tuple[str, ...]
    registering: tuple[str, ...] = ()
    """Libraries that nothing refers to: they register themselves when they are loaded."""
    includes: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Target:
    """One row."""

    name: str
    extra: str
    """Of this package: installs what the exporter and the runtime need."""
    modules: tuple[str, ...]
    """What the extra brings, by the names that are imported."""
    runs_with: tuple[str, ...]
    """Those of ``modules`` that running a file needs: what the runtime's extra brings."""
    distributions: tuple[str, ...]
    """Whose versions a manifest records."""
    suffix: str
    """Of the program's file or files."""
    programs: dict[Kind, Program]
    activations: tuple[str, ...] = ("fp32",)
    """What a program can compute in."""
    half_as_bits: bool = False
    """Float16 tables are kept as int16: the runtime looks up no float16 rows."""
    int8_by_operator: bool = False
    """Int8 rows become float32 by the operator of quantized programs, which the backend computes, not by a cast."""
    products_by_sum: bool = False
    """Rows times a vector are faster as products and a sum than as a matrix product."""
    runner: NativeRunner | None = None
    """None: a worker in Python runs the files, on this host alone."""
    package: str = PACKAGE
    """Where ``export``, ``runtime`` and ``profiling.machines`` hold this target's modules."""

    @property
    def runtime_extra(self) -> str:
        """The extra that installs what running a file needs, and nothing that exports one."""
        return f"run-{self.extra}"

    def module(self, room: str, suffix: str = "") -> Any:
        """The target's module in a room, imported: ``export``, ``runtime`` or ``profiling.machines``."""
        return importlib.import_module(f"{self.package}.{room}.{self.name}{suffix}")


TARGETS: dict[str, Target] = {
    row.name: row
    for row in (
        Target(
            name="executorch",
            extra="executorch",
            modules=("torch", "executorch"),
            runs_with=("torch", "executorch"),
            distributions=("executorch", "torchao"),
            suffix=".pte",
            programs={"scn": Program(name="scn.pte", backends=("xnnpack",), graph_bytes=100_000)},
            int8_by_operator=True,
            runner=NativeRunner(
                name="executorch",
                distribution="executorch",
                sources=("executorch.cpp", "common.h"),
                folder="executorch/lib",
                linked=("executorch", "executorch_etdump", "executorch_threadpool"),
                registering=(
                    "executorch_backend_xnnpack",
                    "executorch_kernels_optimized",
                    "executorch_kernels_quantized",
                ),
                includes=("executorch/include", "executorch/include/executorch/runtime/core/portable_type/c10"),
                definitions=("C10_USING_CUSTOM_GENERATED_MACROS", "ET_EVENT_TRACER_ENABLED", "ET_USE_THREADPOOL"),
            ),
        ),
        Target(
            name="coreml",
            extra="coreml",
            modules=("torch", "coremltools"),
            runs_with=("coremltools",),
            distributions=("coremltools",),
            suffix=".mlpackage",
            programs={"scn": Program(name="scn.mlpackage", backends=("mlprogram",), graph_bytes=65_000)},
            activations=("fp32", "fp16"),
        ),
        Target(
            name="tflite",
            extra="tflite",
            modules=("torch", "litert_torch", "ai_edge_litert"),
            runs_with=("ai_edge_litert",),
            distributions=("litert-torch", "ai-edge-litert"),
            suffix=".tflite",
            programs={"scn": Program(name="scn.tflite", backends=("xnnpack",), graph_bytes=75_000)},
            half_as_bits=True,
            products_by_sum=True,
            runner=NativeRunner(
                name="tflite",
                distribution="ai-edge-litert",
                sources=("litert.cpp", "common.h"),
                folder="ai_edge_litert",
                linked=("LiteRt",),
            ),
        ),
        Target(
            name="onnx",
            extra="onnx",
            modules=("torch", "onnx", "onnxruntime", "onnxscript"),
            runs_with=("onnxruntime",),
            distributions=("onnx", "onnxruntime", "onnxscript"),
            suffix=".onnx",
            programs={
                "scn": Program(name="scn", backends=("cpu",), graph_bytes=75_000),
                "gcn": Program(name="gcn.onnx", backends=("cpu",), precisions=("fp32",), graph_bytes=10_000),
            },
        ),
    )
}
"""By name."""


def find_target(name: str) -> Target:
    """The row of a target.

    Raises:
        UsageError: there is none; the message names the nearest.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown target '{name}' ({nearest(name, TARGETS)})")
    return TARGETS[name]


def targets_of(kind: Kind) -> list[Target]:
    """The rows that take a kind."""
    return [row for row in TARGETS.values() if kind in row.programs]


def with_runner() -> list[str]:
    """Names of the targets whose files run on phones."""
    return [row.name for row in TARGETS.values() if row.runner is not None]
