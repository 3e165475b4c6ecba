"""Read files in pieces, plain or gzipped: chunks of bytes, or blocks of whole lines."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

from cocorrrec_export.errors import CocorrrecError, UsageError

Progress = Callable[[int, int], None]
"""Called with the bytes of the file that were read, and its size."""

MAX_STREAM_BYTES = 64 << 30
"""Most bytes that are read in pieces, after decompression: ten times the reviews of Yelp."""

MAX_RATIO = 100
"""Largest ratio of decompressed to compressed bytes, once there is a GiB of them. Reviews have 3 to 10."""

MAX_LINE = 16 << 20
"""Most bytes of one line."""

_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_CHUNK = 4 << 20
_RATIO_FROM = 1 << 30
_ARCHIVES = (".tar", ".tgz", ".tar.gz", ".zip", ".7z")


class Block(NamedTuple):
    """Whole lines of a file, in UTF-8 and without a zero byte."""

    line: int  # number of the first one, counted from 1
    data: bytes
    lines: int


def check_file(path: Path) -> None:
    """Check that there is a file to read.

    Raises:
        UsageError: there is none.
    """
    if not path.is_file():
        raise UsageError(f"{path}: {'is a folder, expected a file' if path.is_dir() else 'no such file'}")


def read_chunks(path: Path, *, limit: int, progress: Progress | None = None) -> Iterator[bytes]:
    """The bytes of a file, decompressed where its name ends in ``.gz``, without a byte order mark.

    Raises:
        UsageError: it does not exist, or is an archive.
        CocorrrecError: it cannot be read, is no complete gzip file, or holds more than ``limit`` bytes.
    """
    check_file(path)
    if path.name.endswith(_ARCHIVES):
        raise UsageError(f"{path}: is an archive; unpack it, and give the file in it")
    size, total = path.stat().st_size, 0
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else nullcontext(raw) as file:
            while chunk := file.read(_CHUNK):
                if not total:
                    if chunk.startswith(_GZIP) and path.suffix != ".gz":
                        raise CocorrrecError(f"{path}: is gzipped, but its name does not end in .gz")
                    chunk = chunk.removeprefix(_BOM)
                total += len(chunk)
                if total > limit:
                    raise CocorrrecError(f"{path}: holds more than {limit} bytes")
                if total > max(_RATIO_FROM, MAX_RATIO * size):
                    raise CocorrrecError(f"{path}: unpacks to more than {MAX_RATIO} times its size, no data does")
                yield chunk
                if progress is not None:
                    progress(raw.tell(), size)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CocorrrecError(f"{path}: not a complete gzip file: {error}") from None
    except OSError as error:
        raise CocorrrecError(f"{path}: cannot be read: {error.strerror}") from None


def read_blocks(path: Path, *, progress: Progress | None = None) -> Iterator[Block]:
    """A file of lines, in blocks of a few MiB: no more than that is held, whatever the size of the file.

    Raises:
        UsageError: as :func:`read_chunks`.
        CocorrrecError: as :func:`read_chunks`; or it is empty, a line is longer than :data:`MAX_LINE`, or not UTF-8.
    """
    line, rest, is_empty = 1, b"", True
    for chunk in read_chunks(path, limit=MAX_STREAM_BYTES, progress=progress):
        first_end, end = chunk.find(b"\n"), chunk.rfind(b"\n") + 1
        if len(rest) + (first_end if end else len(chunk)) > MAX_LINE:
            raise CocorrrecError(f"{path}, line {line}: longer than {MAX_LINE} bytes")
        if not end:
            rest += chunk
            continue
        data, rest = rest + chunk[:end], chunk[end:]
        block = Block(line, data, data.count(b"\n"))
        _check_text(path, block)
        is_empty = is_empty and data.isspace()
        yield block
        line += block.lines
    if rest:
        block = Block(line, rest, 1)
        _check_text(path, block)
        is_empty = is_empty and rest.isspace()
        yield block
    if is_empty:
        raise CocorrrecError(f"{path}: is empty")


def filled_lines(block: Block) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, each with its number."""
    for number, text in enumerate(block.data.split(b"\n"), start=block.line):
        if text and not text.isspace():
            yield number, text


def check_zero_bytes(path: Path, data: bytes, first_line: int = 1) -> None:
    """Raise for a zero byte: no text holds one."""
    zero = data.find(b"\0")
    if zero >= 0:
        line = first_line + data.count(b"\n", 0, zero)
        raise CocorrrecError(f"{path}, line {line}: not UTF-8 text: holds a zero byte")


def _check_text(path: Path, block: Block) -> None:
    check_zero_bytes(path, block.data, block.line)
    try:
        block.data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = block.line + block.data.count(b"\n", 0, error.start)
        raise CocorrrecError(f"{path}, line {line}: not UTF-8") from None
