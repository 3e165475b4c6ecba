"""Work on files from strangers in a process that may crash, hang or eat memory without harm to ours."""

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet

TIMEOUT_S = 300.0
START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
"""Never a plain fork: libraries with threads of their own do not survive it."""
MEMORY_BYTES = 16 << 30
"""Address space of the process: far above what a model of ours needs, below what takes a machine down."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_child(
    what: str, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """``function(*args, **kwargs)`` in a process of its own; both ways, values are pickled by us and nobody else.

    Args:
        what: what is being done, for the error: ``"reading scn.pte"``.
        function: importable by name; what it prints is thrown away.

    Raises:
        CocorrrecError: that of ``function``; or the process crashed, or took longer than :data:`TIMEOUT_S` seconds.
    """
    context: Any = multiprocessing.get_context(START_METHOD)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, args, kwargs), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(TIMEOUT_S):
            raise CocorrrecError(f"{what}: not done after {TIMEOUT_S:.0f} s, and stopped")
        try:
            ok, value = receiver.recv()
        except EOFError:
            process.join()
            raise CocorrrecError(
                f"{what}: the process {_end(process.exitcode)}: damaged content, or a broken library"
            ) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if ok:
        return value
    raise CocorrrecError(value)


def _end(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"died by {signal.Signals(-exitcode).name}"
    return f"ended with exit code {exitcode}"


def _work(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends this process
    _limit_memory()
    with quiet():
        try:
            result = (True, function(*args, **kwargs))
        except CocorrrecError as error:
            result = (False, str(error))
        except MemoryError:
            result = (False, f"out of memory at {MEMORY_BYTES:,} bytes: more than a model of ours needs")
        except Exception as error:  # a reader that trips over a stranger's file is an answer, not a fault of ours
            result = (False, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")
    sender.send(result)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
