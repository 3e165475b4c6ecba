"""This machine as one to measure on."""

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cocorrrec_export.isolation import child_environment, python_command
from cocorrrec_export.profiling.machines.processes import TooMuchError, started
from cocorrrec_export.profiling.machines.runs import Call, Measured, RunError, check_memory, check_size, read_report
from cocorrrec_export.profiling.runner.package import RunnerPackage
from cocorrrec_export.targets import find_target


class Host:
    """Runs programs here, each call in a fresh process.

    Args:
        command: how a runner is started.
        folder: for inputs and outputs.
        timeout_s: of one run.
        environment: of the runner, next to this process's own.
    """

    def __init__(
        self, command: list[str], folder: Path, *, timeout_s: float, environment: dict[str, str] | None = None
    ) -> None:
        self._command = command
        self._folder = folder
        self._timeout_s = timeout_s
        self._environment = child_environment(**(environment or {}))

    def facts(self) -> dict[str, Any]:
        """What this machine is."""
        return {
            "kind": "host",
            "name": platform.node(),
            "soc": _cpu_model(),
            "os": _os_name(),
            "abi": platform.machine(),
            "kernel": platform.release(),
            "page_size": os.sysconf("SC_PAGE_SIZE"),
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_kb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024,
            "emulated": False,
        }

    def state(self) -> dict[str, Any]:
        """Governor and load; a host has no battery of interest."""
        governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        return {
            "governor": governor.read_text().strip() if governor.is_file() else None,
            "thermal_status": None,
            "battery_celsius": None,
            "load_average": round(os.getloadavg()[0], 2),
        }

    def run(self, program: Path, call: Call) -> Measured:
        """See :class:`cocorrrec_export.profiling.machines.runs.Machine`."""
        inputs, outputs, trace = (self._folder / name for name in ("inputs.bin", "outputs.bin", "trace.bin"))
        inputs.write_bytes(call.inputs)
        outputs.unlink(missing_ok=True)
        options = call.options(model=str(program), inputs=str(inputs), outputs=str(outputs), trace=str(trace))
        code, stdout, stderr = _run([*self._command, *options], self._timeout_s, self._environment)
        report = read_report(stdout, stderr, code, call)
        check_memory(report, call)
        if not outputs.is_file():
            raise RunError(f"{call.contract.name}: the runner wrote no outputs")
        check_size(outputs.stat().st_size, call.output_bytes, call.contract.name)
        return Measured(report, outputs.read_bytes(), trace.read_bytes() if call.trace else None)


def _run(command: list[str], timeout_s: float, environment: dict[str, str]) -> tuple[int, str, str]:
    with started(command, environment=environment, group=True) as program:
        try:
            code, stdout, stderr = program.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise RunError(f"the runner did not end within {timeout_s:g} s; give it longer with --timeout") from None
        except TooMuchError as error:
            raise RunError(f"the runner was ended: {error}") from None
    return (128 - code if code < 0 else code), stdout, stderr


def worker_runtime(target: str) -> str | None:
    """The runtime that a worker of ours, in Python, runs files of a target with; None: a native runner does.

    Raises:
        CocorrrecError: this machine cannot run them.
    """
    row = find_target(target)
    if row.runner is not None:
        return None
    name: str = row.module("profiling.machines", "_worker").runtime()
    return name


@contextlib.contextmanager
def open_host(target: str, package: RunnerPackage | None, *, timeout_s: float) -> Iterator[Host]:
    """This machine for files of one target; a folder for tensors is removed at the end.

    Args:
        target: of the export.
        package: the runner; None where a worker of our own runs the files: see :func:`worker_runtime`.
        timeout_s: of one run.
    """
    if package is not None:
        command, environment = package.command(str(package.path)), {}
    else:
        command = python_command("-m", f"{find_target(target).package}.profiling.machines.{target}_worker")
        environment = {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if Path(path).is_absolute()),
            "OMP_NUM_THREADS": "1",
        }
    with tempfile.TemporaryDirectory(prefix="cocorr-profile-") as folder:
        yield Host(command, Path(folder), timeout_s=timeout_s, environment=environment)


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()
