"""Where a server listens, and what it needs of the operating system for it."""

import contextlib
import os
import socket
import ssl
import stat
import sys
from pathlib import Path

from cocorrrec_export.errors import CocorrrecError, UsageError

BACKLOG = 2048
MAX_TOKEN_BYTES = 8192
"""More does not fit into a client's headers."""


def listen(host: str, port: int) -> socket.socket:
    """A socket on an address of this machine.

    Raises:
        UsageError: no host.
        CocorrrecError: it cannot be listened on.
    """
    if not host.strip():
        raise UsageError("--host is empty: give an address, such as 127.0.0.1, or 0.0.0.0 for all of this machine")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CocorrrecError(f"cannot listen on {host}:{port}: {reason}; choose --host or --port") from None


def listen_on_path(path: Path) -> socket.socket:
    """A Unix socket; one that a dead server left is replaced, anything else at ``path`` is not.

    Raises:
        CocorrrecError: the path is taken, too long, or cannot be written.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise CocorrrecError(f"cannot listen on {path}: {reason}; choose another --unix-socket") from None
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def close_path(path: Path) -> None:
    """Remove the socket of a server that has ended."""
    with contextlib.suppress(OSError):
        path.unlink()


def require_descriptors(connections: int, spare: int) -> None:
    """Have as many descriptors as connections need, and some to spare.

    Raises:
        CocorrrecError: this process may not open so many; says how many it may.
    """
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = connections + spare
    if hard != resource.RLIM_INFINITY and hard < need:
        fewer = f"give --max-connections {hard - spare}, or " if hard > spare else ""
        raise CocorrrecError(
            f"{connections} connections need {need} open files, and this process may have {hard}: "
            f"{fewer}raise the limit ('ulimit -Hn {need}', LimitNOFILE of systemd)"
        )
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    except (OSError, ValueError) as error:  # macOS says that there is no limit, and has one
        raise CocorrrecError(
            f"{connections} connections need {need} open files, which this system refuses ({error}): give fewer "
            "--max-connections"
        ) from None


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What TLS is served with.

    Raises:
        CocorrrecError: certificate or key cannot be read, the key is encrypted, or they do not belong together.
    """
    for path, what in ((certificate, "certificate"), (key, "key")):
        if not os.access(path, os.R_OK) or path.is_dir():
            raise CocorrrecError(f"{path}: the {what} cannot be read: no such file, or no permission")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_password)
    except _EncryptedError:
        raise CocorrrecError(
            f"{key}: the key is encrypted, and a server has nobody to ask: decrypt it into a file that only this user "
            "may read ('openssl pkey -in KEY -out PLAIN')"
        ) from None
    except (ssl.SSLError, OSError, ValueError) as error:
        raise CocorrrecError(f"{certificate}, {key}: certificate or key cannot be read: {error}") from None
    return context


class _EncryptedError(Exception):
    """A password was asked for."""


def _refuse_password() -> str:
    raise _EncryptedError


def read_token(path: Path) -> str:
    """The bearer token in a file.

    Raises:
        UsageError: empty, larger than a token may be, or more than one word.
    """
    with path.open("rb") as file:
        data = file.read(MAX_TOKEN_BYTES + 1)
    token = data.strip().decode("latin-1")
    if len(data) > MAX_TOKEN_BYTES or not token.isascii() or len(token.split()) != 1 or not token.isprintable():
        raise UsageError(f"{path}: holds no bearer token; it must be one word of ASCII characters")
    return token


def readable_by_others(path: Path) -> bool:
    """Whether users of this machine next to the owner may read a file."""
    return sys.platform != "win32" and bool(path.stat().st_mode & 0o077)
