"""Read files in pieces, plain or gzipped: chunks of bytes, or blocks of whole lines."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from cocorrrec_export.errors import CocorrrecError, UsageError

OnBytes = Callable[[int, int], None]
"""Called with the bytes of the file that were read, and its size."""

MAX_STREAM_BYTES = 64 << 30
"""Most bytes that are read in pieces, after decompression: ten times the reviews of Yelp."""

MAX_RATIO = 100
"""Largest ratio of decompressed to compressed bytes, once there is a GiB of them. Reviews have 3 to 10."""

MAX_LINE = 16 << 20
"""Most bytes of one line."""

_GZIP, _BZIP2, _XZ, _ZSTD, _ZIP = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_BOM = b"\xef\xbb\xbf"
_CHUNK = 4 << 20
_ZSTD_PIECE = 4 << 10
"""Bytes of a zstd file that are unpacked at once. Four of them can stand for 128 KiB, so for 128 MiB together."""
_RATIO_FROM = 1 << 30
_ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z", ".rar")


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


def plain_name(path: Path) -> str:
    """A file's name without the suffix of its compression."""
    return path.stem if path.suffix in _COMPRESSED else path.name


def first_bytes(path: Path, count: int = 64) -> bytes:
    """The beginning of a file as it is on the disk.

    Raises:
        UsageError: there is no file.
        CocorrrecError: it cannot be read.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise CocorrrecError(f"{path}: cannot be read: {error.strerror}") from None


def read_chunks(path: Path, *, limit: int, progress: OnBytes | None = None) -> Iterator[bytes]:
    """The bytes of a file, decompressed where it is gzip, bzip2, xz, zstd or a zip of one file.

    Raises:
        UsageError: it does not exist, or is an archive of several files.
        CocorrrecError: it cannot be read, is not a complete compressed file, or holds more than ``limit`` bytes.
    """
    check_file(path)
    if path.name.endswith(_ARCHIVES):
        raise UsageError(f"{path}: is an archive; unpack it, and give the file in it")
    size, total = path.stat().st_size, 0
    beginning = first_bytes(path)
    kind = _compression(path, beginning)
    try:
        with path.open("rb") as raw, _decompressor(path, raw, kind) as file:
            while chunk := file.read(_CHUNK):
                chunk = chunk if total else chunk.removeprefix(_BOM)
                total += len(chunk)
                if total > limit:
                    raise CocorrrecError(f"{path}: holds more than {limit} bytes")
                if total > max(_RATIO_FROM, MAX_RATIO * size):
                    raise CocorrrecError(f"{path}: unpacks to more than {MAX_RATIO} times its size, no data does")
                yield chunk
                if progress is not None:
                    progress(raw.tell(), size)
    except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError) as error:
        raise CocorrrecError(f"{path}: not a complete {kind} file: {error}") from None
    except OSError as error:
        if kind != "plain" and error.errno is None:
            raise CocorrrecError(f"{path}: not a complete {kind} file: {error}") from None
        raise CocorrrecError(f"{path}: cannot be read: {error.strerror}") from None


def _compression(path: Path, beginning: bytes) -> str:
    """By the first bytes; a name that promises a compression is believed, so that a damaged file is called so."""
    kinds = {"gzip": _GZIP, "bzip2": _BZIP2, "xz": _XZ, "zstd": _ZSTD, "zip": _ZIP}
    by_name = dict(zip(_COMPRESSED, ("gzip", "bzip2", "xz", "zstd", "zip"), strict=True))
    found = next((kind for kind, magic in kinds.items() if beginning.startswith(magic)), None)
    return found or by_name.get(path.suffix, "plain")


def _decompressor(path: Path, raw: IO[bytes], kind: str) -> IO[bytes]:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=raw)  # type: ignore[return-value]
    if kind == "bzip2":
        return bz2.BZ2File(raw)
    if kind == "xz":
        return lzma.LZMAFile(raw)
    if kind == "zstd":
        return _Zstd(raw)  # type: ignore[return-value]
    if kind == "zip":
        archive = zipfile.ZipFile(raw)
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if len(names) != 1:
            some = ", ".join(names[:5])
            raise UsageError(f"{path}: is an archive of {len(names)} files ({some}); unpack it, and give one of them")
        return archive.open(names[0])
    return raw


class _Zstd:
    """A zstd file to read from: the library's own does not say that the end is missing."""

    def __init__(self, raw: IO[bytes]) -> None:
        import zstandard

        self._raw, self._new, self._error = raw, zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
        self._frame = self._new()
        self._rest = b""

    def __enter__(self) -> "_Zstd":
        return self

    def __exit__(self, *_: object) -> None:
        self._rest = b""

    def read(self, size: int) -> bytes:
        """About as many bytes, none at the end."""
        pieces: list[bytes] = []
        total = 0
        while total < size and (piece := self._piece()):
            pieces.append(piece)
            total += len(piece)
        return b"".join(pieces)

    def _piece(self) -> bytes:
        while packed := self._rest or self._raw.read(_ZSTD_PIECE):
            if self._frame.eof:  # another frame follows
                self._frame = self._new()
            try:
                found: bytes = self._frame.decompress(packed)
            except self._error as error:
                raise EOFError(error) from None
            self._rest = self._frame.unused_data
            if found:
                return found
        if not self._frame.eof:
            raise EOFError("its end is missing")
        return b""


def read_blocks(path: Path, *, progress: OnBytes | None = None) -> Iterator[Block]:
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
