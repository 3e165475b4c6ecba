"""An adbd that asks every client for a key and accepts none: Debian's adbd cannot demand authorisation.

adb's messages are six little-endian words (command, two arguments, length, checksum, complement of the command) and
the data.
"""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_AUTH, _TOKEN = 0x48545541, 1


def _serve(connection: socket.socket) -> None:
    token = bytes(20)
    with connection:
        while True:
            header = connection.recv(24, socket.MSG_WAITALL)
            if len(header) < 24:
                return
            connection.recv(struct.unpack("<6I", header)[3], socket.MSG_WAITALL)
            answer = struct.pack("<6I", _AUTH, _TOKEN, 0, len(token), sum(token), _AUTH ^ 0xFFFFFFFF)
            connection.sendall(answer + token)


@contextmanager
def unauthorised_device() -> Iterator[str]:
    """Listen on a port of loopback; its address as adb takes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=_serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
