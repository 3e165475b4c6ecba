"""Links: the arithmetic with a clock of the test's own, and both ways of shaping over real sockets."""

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cocorrrec_export.errors import UsageError
from cocorrrec_export.link.shaping import (
    MIN_TIMEOUT_S,
    SEGMENT_BYTES,
    Direction,
    Link,
    choose_shaping,
    namespace,
    proxy,
)


def direction(bytes_per_s: float = float("inf"), **link: float) -> Direction:
    return Direction(bytes_per_s, Link(1.0, **link), random.Random(0))


def test_bytes_wait_for_those_before_them_and_travel_half_a_round_trip() -> None:
    line = direction(1000.0, rtt_ms=100)
    assert line.arrival(0.0, 500) == pytest.approx(0.55)
    assert line.arrival(0.0, 500) == pytest.approx(1.05)
    assert line.arrival(5.0, 500) == pytest.approx(5.55)


def test_a_lost_segment_costs_a_timeout_and_nothing_overtakes_it() -> None:
    line = direction(loss=0.5)
    arrivals = [line.arrival(0.0, SEGMENT_BYTES) for _ in range(200)]
    assert arrivals == sorted(arrivals)
    assert arrivals[-1] >= MIN_TIMEOUT_S
    assert direction(loss=0.0).arrival(1.0, 10**6) == 1.0


def test_the_share_of_lost_segments_is_the_one_asked_for() -> None:
    rng = random.Random(4)
    link = Link(1.0, loss=0.01)
    late = sum(Direction(float("inf"), link, rng).arrival(0.0, SEGMENT_BYTES) > 0 for _ in range(20_000))
    assert 140 <= late <= 260


@contextmanager
def echo(host: str = "127.0.0.1") -> Iterator[int]:
    """A server that sends back what it gets."""
    listener = socket.create_server((host, 0))

    def serve() -> None:
        try:
            while True:
                connection, _ = listener.accept()
                with connection:
                    while data := connection.recv(65536):
                        connection.sendall(data)
        except OSError:
            pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def round_trip(port: int, size: int) -> float:
    """Seconds from the first byte sent to the last one back."""
    payload = random.Random(1).randbytes(size)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        start = time.perf_counter()
        connection.sendall(payload)
        back = b""
        while len(back) < size:
            back += connection.recv(65536)
        assert back == payload
        return time.perf_counter() - start


def test_the_proxy_is_never_faster_than_its_link() -> None:
    with echo() as port:
        with proxy(("127.0.0.1", port), Link(1.0, rtt_ms=50), shaped=True) as shaped:
            assert round_trip(shaped, 1) >= 0.05
            assert round_trip(shaped, 100_000) >= 0.05 + 0.1
        with proxy(("127.0.0.1", port), Link(0.001, rtt_ms=10), shaped=False) as unshaped:
            assert round_trip(unshaped, 100_000) >= 0.01


def test_unknown_ways_and_those_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="known are auto, namespace, proxy"):
        choose_shaping("magic")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert choose_shaping("auto") == "proxy"
    with pytest.raises(UsageError, match="needs Linux, root"):
        choose_shaping("namespace")


def test_a_namespace_is_shaped_and_leaves_nothing_behind() -> None:
    import subprocess

    if choose_shaping("auto") != "namespace":
        reason = "network namespaces need Linux, root, and the commands ip and tc (scripts/install_link_tools.sh)"
        if os.environ.get("CI"):
            pytest.fail(f"CI must run this: {reason}")
        pytest.skip(reason)
    with namespace() as made:
        made.shape(2.0)
        shown = subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout
        assert "tbf" in shown and "rate 16Mbit" in shown
        inside = [*made.command_prefix, "ip", "-brief", "address"]
        assert made.host in subprocess.run(inside, capture_output=True, text=True, check=True).stdout
        made.shape(5.0)
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert made.name not in listed
    assert "tbf" not in subprocess.run(["tc", "qdisc", "show"], capture_output=True, text=True, check=True).stdout
