"""Open the machine that a profile is taken on, with the runner it needs."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.profiling.machines.host import open_host, worker_runtime
from cocorrrec_export.profiling.machines.runs import Machine
from cocorrrec_export.profiling.runner.package import RunnerPackage, ensure_package, host_abi
from cocorrrec_export.targets import TARGETS, with_runner


@dataclass(frozen=True)
class OpenedMachine:
    """A machine, and what runs files on it."""

    machine: Machine
    runtime: str
    package_id: str | None
    """None: the target's Python runtime."""


def targets_on_host() -> list[str]:
    """Names of the targets whose files this machine runs."""
    found = []
    for name in TARGETS:
        with contextlib.suppress(CocorrrecError):
            worker_runtime(name)
            found.append(name)
    return found


@contextlib.contextmanager
def open_on_host(target: str, *, timeout_s: float, progress: Callable[[str], None]) -> Iterator[OpenedMachine]:
    """This machine.

    Raises:
        CocorrrecError: it cannot run files of this target.
    """
    runtime = worker_runtime(target)
    package = ensure_package(target, host_abi(), progress) if runtime is None else None
    with open_host(target, package, timeout_s=timeout_s) as host:
        if package is not None:
            yield _with_package(host, package)
        else:
            yield OpenedMachine(host, f"{runtime}, through Python", None)


def _with_package(machine: Machine, package: RunnerPackage) -> OpenedMachine:
    return OpenedMachine(machine, package.runtime, package.id)


@contextlib.contextmanager
def open_on_device(
    target: str, serial: str | None, *, timeout_s: float, cool_down_s: float, progress: Callable[[str], None]
) -> Iterator[OpenedMachine]:
    """The connected phone, or the one of a serial; it is left as it was, but for the runner.

    Raises:
        CocorrrecError: no phone, one that cannot be used, or no runner for it.
    """
    from cocorrrec_export.profiling.machines.adb import find_adb
    from cocorrrec_export.profiling.machines.device import choose_device, open_device

    if target not in with_runner():
        raise CocorrrecError(
            f"{target} files are profiled with --host: on phones, {' and '.join(with_runner())} files run"
        )
    adb = choose_device(find_adb(), serial)
    progress(f"connecting to {adb.serial}")
    with open_device(adb, target, timeout_s=timeout_s, cool_down_s=cool_down_s, progress=progress) as (device, package):
        yield _with_package(device, package)


OpenMachine = Callable[[str, Callable[[str], None]], AbstractContextManager[OpenedMachine]]
"""Takes the target of the artifact, and one who receives what is being done."""


def machine_opener(*, host: bool, serial: str | None, timeout_s: float, cool_down_s: float) -> OpenMachine:
    """What opens this machine, or a phone, once the target of the artifact is known.

    Args:
        host: this machine; else a phone.
        serial: of the phone; None takes the one that is connected.
        timeout_s: seconds that one run may take.
        cool_down_s: seconds to wait for a hot phone to cool.
    """

    def open_machine(target: str, progress: Callable[[str], None]) -> AbstractContextManager[OpenedMachine]:
        if host:
            return open_on_host(target, timeout_s=timeout_s, progress=progress)
        return open_on_device(target, serial, timeout_s=timeout_s, cool_down_s=cool_down_s, progress=progress)

    return open_machine
