"""Processes of our own: for files from strangers, which may crash, hang or eat memory without harm to ours.

A Python that is started with ``-c`` or ``-m``, as :mod:`multiprocessing` does, takes modules from the current folder
before the standard library's, and the current folder may have come from a stranger. Every process that we start is
told not to.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.extras import quiet
from cocorrrec_export.text import shortened

TIMEOUT_S = 300.0
START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
"""Never a plain fork: libraries with threads of their own do not survive it."""
MAX_REASON = 1000
"""Characters of what a library says is wrong."""
MEMORY_BYTES = 16 << 30
"""Address space of the process: far above what a model of ours needs, below what takes a machine down."""
PROGRAM_BYTES, PROGRAM_SIZES = (640 << 20) + (os.cpu_count() or 1) * (16 << 20), 16
"""Memory that a program may take when it is loaded and run: so many bytes, of them stacks of two threads for each core,
and so many times its file's."""

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def keep_current_folder_out() -> None:
    """From now on, no Python that this process starts takes modules from the folder that it stands in.

    For those too that libraries start; an empty entry of a search path means that folder.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"):
        if name in os.environ:
            os.environ[name] = os.pathsep.join(_elsewhere(os.environ[name].split(os.pathsep)))
    sys.path[:] = [entry for entry in sys.path if entry not in ("", ".")]


def _elsewhere(paths: list[str]) -> list[str]:
    """Those of a search path that do not depend on the current folder."""
    return [path for path in paths if Path(path).is_absolute()]


def child_environment(**settings: str) -> dict[str, str]:
    """The environment of a process that we start: ours, without the current folder, and ``settings``."""
    keep_current_folder_out()
    return os.environ | settings


def python_command(*arguments: str) -> list[str]:
    """This Python with arguments, told not to look into the current folder; with :func:`child_environment`."""
    return [sys.executable, "-P", *arguments]


def process_context() -> Any:
    """What :mod:`multiprocessing` starts processes by, here and nowhere else."""
    keep_current_folder_out()
    return multiprocessing.get_context(START_METHOD)


def start_process(process: Any) -> None:
    """Start a process of :func:`process_context`, which does not run the user's script again to find its functions.

    Ours are in this package, so that a script of a few lines needs no ``if __name__ == "__main__":``.
    """
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), vars(main).pop("__file__", None)
    main.__spec__ = None
    try:
        process.start()
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


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
    context = process_context()
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, function, args, kwargs), daemon=True)
    start_process(process)
    sender.close()
    try:
        if not receiver.poll(TIMEOUT_S):
            raise CocorrrecError(f"{what}: not done after {TIMEOUT_S:.0f} s, and stopped")
        try:
            ok, value = receiver.recv()
        except (EOFError, OSError):  # before its answer, or in the middle of it
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
            result = (False, f"out of memory: a model of ours needs far less than {MEMORY_BYTES:,} bytes")
        except Exception as error:  # a reader that trips over a stranger's file is an answer, not a fault of ours
            result = (False, f"{type(error).__name__}: {shortened((str(error).splitlines() or [''])[0], MAX_REASON)}")
    sender.send(result)


@contextmanager
def program_memory(size: int) -> Iterator[None]:
    """Allow this process :data:`PROGRAM_BYTES` and :data:`PROGRAM_SIZES` times ``size`` bytes more than it has now.

    What asks for more is refused by the system (Linux alone), as for the tensors that a damaged program declares.

    Args:
        size: bytes of the program's files.

    Raises:
        CocorrrecError: Python was refused memory. Native code may end the process instead.
    """
    statm, more = Path("/proc/self/statm"), PROGRAM_BYTES + PROGRAM_SIZES * size
    if not statm.exists():
        yield
        return
    import resource

    taken = int(statm.read_text().split()[5]) * resource.getpagesize()  # data and stacks
    soft, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_least(taken + more, soft, most), most))
    try:
        yield
    except MemoryError:
        raise CocorrrecError(f"a file of {size:,} bytes asks for more than {more:,} bytes of memory") from None
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, most))


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    for limit, wanted in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CORE, 0)):
        _, most = resource.getrlimit(limit)  # a shell or container may allow less, which cannot be raised
        least = _least(wanted, most)
        resource.setrlimit(limit, (least, least))


def _least(wanted: int, *limits: int) -> int:
    """The least of what is wanted and the limits that there are."""
    import resource

    return min([wanted, *(limit for limit in limits if limit != resource.RLIM_INFINITY)])
