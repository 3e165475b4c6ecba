"""One run of one entry point in a process of its own: what is asked, what comes back, and when it counts."""

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cocorrrec_export import strict_json
from cocorrrec_export.contract import EntryPoint, TensorSpec
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import total_bytes
from cocorrrec_export.runtime.base import Arrays
from cocorrrec_export.text import printable

MEMORY_STAGES = ("idle", "before_load", "loaded", "first_call", "end")
MEMORY_KEYS = ("peak_kb", "resident_kb", "anonymous_kb", "mapped_kb", "heap_bytes")
MAX_COUNT = 1 << 53
"""Of nanoseconds, a hundred days; and what any reader of JSON holds exactly."""
MAX_TRACE_BYTES = 256 << 20
HOT_CELSIUS = 37.0
LOG_LINES = 5
MAX_TAIL = 2000
"""Of a crashed runner's log, in the error."""


class RunError(CocorrrecError):
    """A runner did not end with a complete result."""


@dataclass(frozen=True)
class Program:
    """An exported file and its contract."""

    path: Path
    entry_points: tuple[EntryPoint, ...]

    @property
    def bytes(self) -> int:
        """Size of the file, or of all files where it is a folder."""
        return total_bytes(self.path)

    def contract(self, name: str) -> EntryPoint:
        """The contract of one entry point."""
        return next(entry for entry in self.entry_points if entry.name == name)


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a runner is asked to do."""

    contract: EntryPoint
    inputs: bytes
    """Cases one after the other, each the raw bytes of all inputs in the order of the contract."""
    iterations: int = 0
    warmup: int = 0
    threads: int = 1
    trace: bool = False
    """Whether to record per-operator times; such a run is not for timing."""

    @property
    def output_bytes(self) -> int:
        """How many bytes of outputs there must be."""
        cases = len(self.inputs) // max(_bytes_of_case(self.contract.inputs), 1)
        return cases * _bytes_of_case(self.contract.outputs)

    def options(self, *, model: str, inputs: str, outputs: str, trace: str) -> list[str]:
        """The runner's command line, for files at these paths."""
        options = ["--model", model, "--entry", self.contract.name, "--inputs", inputs, "--outputs", outputs]
        options += ["--input-names", ",".join(spec.name for spec in self.contract.inputs)]
        options += ["--output-names", ",".join(spec.name for spec in self.contract.outputs)]
        options += ["--iterations", str(self.iterations), "--warmup", str(self.warmup), "--threads", str(self.threads)]
        return options + (["--trace", trace] if self.trace else [])


@dataclass(frozen=True)
class Measured:
    """What a runner answered."""

    report: dict[str, Any]
    outputs: bytes
    trace: bytes | None = None


class Machine(Protocol):
    """Where programs are run: this host, or a device."""

    def facts(self) -> dict[str, Any]:
        """What the machine is; does not change during a profile."""
        ...

    def state(self) -> dict[str, Any]:
        """What changes: temperature, throttling, governor."""
        ...

    def run(self, program: Path, call: Call) -> Measured:
        """Run one call in a fresh process.

        Raises:
            RunError: it did not end with a complete result.
        """
        ...


def check_size(size: int, wanted: int, what: str) -> None:
    """Check how large a file is before it is read or copied.

    Raises:
        RunError: it is not.
    """
    if size != wanted:
        raise RunError(f"{what}: the runner wrote {size} bytes of outputs, {wanted} were expected")


def _bytes_of_case(specs: tuple[TensorSpec, ...]) -> int:
    return sum(4 * int(np.prod([n if isinstance(n, int) else 1 for n in spec.shape])) for spec in specs)


def is_hot(state: dict[str, Any]) -> bool:
    """Whether times taken now would be those of a hot or throttling machine; what it does not say counts as cool."""
    return (state["battery_celsius"] or 0) > HOT_CELSIUS or (state["thermal_status"] or 0) > 0


def pack(contract: EntryPoint, cases: list[Arrays]) -> bytes:
    """The inputs of cases, as :class:`Call` wants them."""
    return b"".join(
        np.ascontiguousarray(case[spec.name], dtype=spec.dtype).tobytes() for case in cases for spec in contract.inputs
    )


def unpack(contract: EntryPoint, data: bytes, cases: int) -> list[Arrays]:
    """The outputs of ``cases`` cases, by name.

    Raises:
        RunError: there are more or fewer bytes than the contract says.
    """
    sizes = [int(np.prod([int(n) if isinstance(n, int) else 1 for n in spec.shape])) for spec in contract.outputs]
    wanted = 4 * sum(sizes) * cases
    if len(data) != wanted:
        raise RunError(f"{contract.name}: the runner wrote {len(data)} bytes of outputs, {wanted} were expected")
    flat: NDArray[np.uint8] = np.frombuffer(data, dtype=np.uint8)
    outputs, place = [], 0
    for _ in range(cases):
        named: Arrays = {}
        for spec, size in zip(contract.outputs, sizes, strict=True):
            shape = [n if isinstance(n, int) else 1 for n in spec.shape]
            named[spec.name] = flat[place : place + 4 * size].view(spec.dtype).reshape(shape)
            place += 4 * size
        outputs.append(named)
    return outputs


def read_report(stdout: str, stderr: str, code: int, call: Call) -> dict[str, Any]:
    """The runner's JSON, if it is complete; nothing else is a success.

    Args:
        stdout: all of it.
        stderr: all of it.
        code: exit code, 128 + n after signal n.
        call: what was asked.

    Raises:
        RunError: one sentence with the signal, the runner's own words or its last log lines.
    """
    report = _last_object(stdout)
    what = f"the runner, on {call.contract.name},"
    if report.get("ok") is False and isinstance(report.get("error"), str):
        raise RunError(f"{what} failed: {printable(report['error'][:MAX_TAIL], keep='')}")
    if code > 128:
        raise RunError(f"{what} was ended by {signal_name(code - 128)}{_tail(stderr or stdout)}")
    if code or report.get("complete") is not True:
        raise RunError(f"{what} ended with exit code {code} and without a complete result{_tail(stderr or stdout)}")
    _check_report(report, call, what)
    return report


def signal_name(number: int) -> str:
    """``SIGSEGV``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_object(stdout: str) -> dict[str, Any]:
    for line in reversed(stdout.strip().splitlines()):
        if line.startswith('{"runner"'):
            try:
                report = strict_json.parse(line)
            except ValueError:
                return {}
            return report if isinstance(report, dict) else {}
    return {}


def _check_report(report: dict[str, Any], call: Call, what: str) -> None:
    samples, memory = report.get("latency_ns"), report.get("memory")
    whole = (
        isinstance(samples, list)
        and len(samples) == call.iterations
        and all(map(_is_count, samples))
        and isinstance(memory, dict)
        and memory.keys() == set(MEMORY_STAGES)
        and all(_is_count(report.get(key)) for key in ("load_ns", "first_call_ns", "planned_bytes", "program_bytes"))
    )
    if not whole:
        raise RunError(f"{what} answered something else than was asked: {printable(str(report)[:200], keep='')}")


def check_memory(report: dict[str, Any], call: Call) -> None:
    """Check what a report says of memory.

    Raises:
        RunError: a figure is missing, or none that a machine can have.
    """
    for stage, figures in report["memory"].items():
        whole = (
            isinstance(figures, dict) and figures.keys() == set(MEMORY_KEYS) and all(map(_is_count, figures.values()))
        )
        if not whole:
            said = printable(str(figures)[:200], keep="")
            raise RunError(
                f"the runner, on {call.contract.name}, told something else than its memory at {stage}: {said}"
            )


def _is_count(value: object) -> bool:
    """Whether it is a time or size that a machine can have."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def _tail(log: str) -> str:
    lines = [line.strip() for line in log.strip().splitlines() if line.strip()][-LOG_LINES:]
    return printable(f"; its last lines: {' | '.join(lines)}"[:MAX_TAIL], keep="") if lines else ""
