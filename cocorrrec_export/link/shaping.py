"""Links of a given bandwidth, delay and loss on one machine.

Two ways. A **namespace**: the server lives in a Linux network namespace behind a veth pair, both of whose ends are
shaped by the kernel's token bucket (``tc tbf``); needs root. A **proxy** in user space: bytes are handed on when a link
of that bandwidth and delay would have delivered them. The kernel's delay and loss (netem) is missing from many kernels,
so delay and loss always come from the proxy, in front of the namespace where there is one.

Loss is a model: TCP hides it, so what an application sees of a lost segment is time. Each segment of up to 1,448 bytes
is lost with the given chance; what follows it, and itself, arrives one retransmission timeout later.
"""

import os
import queue
import random
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Literal

from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.isolation import process_context, start_process

SEGMENT_BYTES = 1448
MIN_TIMEOUT_S = 0.2
"""Linux' smallest retransmission timeout."""
_BURST_BYTES = 1600
Shaping = Literal["namespace", "proxy"]


@dataclass(frozen=True)
class Link:
    """What a link is like, in both directions."""

    bandwidth_mb_s: float
    rtt_ms: float = 0.0
    loss: float = 0.0
    """Chance of each segment to be lost."""


class Direction:
    """When the bytes of one direction of a link arrive; a clock is passed in.

    Args:
        bytes_per_s: bandwidth; ``inf`` for none of its own.
        link: delay and loss.
        rng: draws the losses.
    """

    def __init__(self, bytes_per_s: float, link: Link, rng: random.Random) -> None:
        self._bytes_per_s = bytes_per_s
        self._delay_s = link.rtt_ms / 2e3
        self._loss = link.loss
        self._timeout_s = max(MIN_TIMEOUT_S, 2 * link.rtt_ms / 1e3)
        self._rng = rng
        self._free = 0.0
        self._last = 0.0

    def arrival(self, now: float, size: int) -> float:
        """When ``size`` bytes that are sent now have arrived, after everything that was sent before."""
        self._free = max(now, self._free) + size / self._bytes_per_s
        arrival = self._free + self._delay_s
        while any(self._rng.random() < self._loss for _ in range(-(-size // SEGMENT_BYTES))):
            arrival += self._timeout_s
        self._last = max(self._last, arrival)
        return self._last


def _pump(source: socket.socket, sink: socket.socket, direction: Direction) -> None:
    """Hand bytes on when they have arrived. A thread each for reading and writing: asyncio's timers are too coarse."""
    on_the_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

    def deliver() -> None:
        try:
            while True:
                at, data = on_the_way.get()
                time.sleep(max(0.0, at - time.perf_counter()))
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                sink.sendall(data)
        except OSError:
            source.close()  # the other end has gone

    threading.Thread(target=deliver, daemon=True).start()
    try:
        while data := source.recv(65536):
            on_the_way.put((direction.arrival(time.perf_counter(), len(data)), data))
    except OSError:
        pass
    on_the_way.put((0.0, b""))


def _run_proxy(target: tuple[str, int], link: Link, shaped: bool, seed: int, ready: Connection) -> None:
    """The proxy's process: serve until it is ended."""
    listener = socket.create_server(("127.0.0.1", 0))
    ready.send(listener.getsockname()[1])
    bytes_per_s = link.bandwidth_mb_s * 1e6 if shaped else float("inf")
    rng = random.Random(seed)
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(target)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for source, sink in ((client, server), (server, client)):
            direction = Direction(bytes_per_s, link, random.Random(rng.random()))
            threading.Thread(target=_pump, args=(source, sink, direction), daemon=True).start()


@contextmanager
def proxy(target: tuple[str, int], link: Link, *, shaped: bool, seed: int = 0) -> Iterator[int]:
    """A proxy to ``target`` in a process of its own; gives its port.

    Args:
        target: host and port of the server.
        link: what to imitate.
        shaped: whether the bandwidth is the proxy's to limit, too.
        seed: of the losses.
    """
    context = process_context()
    here, there = context.Pipe()
    process = context.Process(target=_run_proxy, args=(target, link, shaped, seed, there), daemon=True)
    start_process(process)
    try:
        there.close()
        yield int(here.recv())
    finally:
        process.terminate()
        process.join()
        here.close()


class Namespace:
    """A network namespace behind a shaped veth pair."""

    def __init__(self, name: str, outer: str, inner: str, host: str) -> None:
        self.name = name
        self.host = host
        """Address inside."""
        self._outer = outer
        self._inner = inner

    @property
    def command_prefix(self) -> list[str]:
        """Put before a command, to run it inside."""
        return ["ip", "netns", "exec", self.name]

    def shape(self, bandwidth_mb_s: float) -> None:
        """Limit both directions."""
        rate = ("rate", f"{bandwidth_mb_s * 8:g}mbit", "burst", str(_BURST_BYTES), "latency", "1s")
        _run("tc", "qdisc", "replace", "dev", self._outer, "root", "tbf", *rate)
        _run(*self.command_prefix, "tc", "qdisc", "replace", "dev", self._inner, "root", "tbf", *rate)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A namespace of its own for the server; everything is removed at the end.

    Raises:
        CocorrrecError: the operating system refused.
    """
    mark = uuid.uuid4().hex[:6]
    name, outer, inner = f"cocorr-{mark}", f"cc{mark}a", f"cc{mark}b"
    # 198.18.0.0/15 is set aside for measurements of networks (RFC 2544).
    subnet = f"198.18.{random.SystemRandom().randrange(256)}"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        try:
            _run("ip", "link", "set", inner, "netns", name)
            _run("ip", "address", "add", f"{subnet}.1/30", "dev", outer)
            _run("ip", "link", "set", outer, "up")
            inside = ("ip", "netns", "exec", name, "ip")
            _run(*inside, "address", "add", f"{subnet}.2/30", "dev", inner)
            _run(*inside, "link", "set", inner, "up")
            _run(*inside, "link", "set", "lo", "up")
            yield Namespace(name, outer, inner, f"{subnet}.2")
        finally:
            subprocess.run(["ip", "link", "del", outer], check=False, capture_output=True)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CocorrrecError(f"{' '.join(command)}: {done.stderr.strip() or f'ended with {done.returncode}'}")


def choose_shaping(wanted: str) -> Shaping:
    """``auto``: a namespace where this process may make one, else the proxy.

    Raises:
        UsageError: an unknown way, or a namespace that cannot be had.
    """
    if wanted not in ("auto", "namespace", "proxy"):
        raise UsageError(f"--shaping {wanted}: known are auto, namespace, proxy")
    possible = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("ip") and shutil.which("tc")
    if wanted == "namespace" and not possible:
        raise UsageError("--shaping namespace needs Linux, root, and the commands ip and tc (Debian package iproute2)")
    if wanted == "proxy" or not possible:
        return "proxy"
    try:
        with namespace() as made:
            made.shape(1.0)
    except CocorrrecError:
        if wanted == "namespace":
            raise
        return "proxy"
    return "namespace"
