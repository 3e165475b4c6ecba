"""Files that a library reads whole: Parquet, Arrow, and JSON of any shape."""

import io
from pathlib import Path

import polars as pl

from cocorrrec_export.data.files.columns import Raw
from cocorrrec_export.data.files.csv import MAX_BYTES
from cocorrrec_export.data.files.streaming import OnBytes, check_zero_bytes, first_bytes, read_chunks
from cocorrrec_export.errors import CocorrrecError, UsageError

PARQUET, ARROW, JSON = "parquet", "arrow", "json"
_DEPTH = 4

_STRANGERS = (
    (b"SQLite format 3\0", "an SQLite database: sqlite3 -header -csv FILE \"select * from TABLE\" > new.csv"),
    (b"\x89HDF", "HDF5: python -c \"import pandas; pandas.read_hdf('FILE').to_parquet('new.parquet')\""),
    (b"\x80\x04\x95", "a pickle, which could run any code and is not opened: where you trust it, python -c "
     "\"import pandas; pandas.read_pickle('FILE').to_parquet('new.parquet')\""),
    (b"\x80\x05\x95", "a pickle, which could run any code and is not opened: where you trust it, python -c "
     "\"import pandas; pandas.read_pickle('FILE').to_parquet('new.parquet')\""),
    (b"Obj\x01", "Avro: python -c \"import polars; polars.read_avro('FILE').write_parquet('new.parquet')\""),
    (b"ORC", "ORC: python -c \"import pandas; pandas.read_orc('FILE').to_parquet('new.parquet')\""),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet: save it as CSV"),
    (b"\x93NUMPY", "a NumPy array: write it as CSV with numpy.savetxt"),
    (b"%PDF", "a PDF: there is nothing to read"),
)  # fmt: skip


def find_table_format(path: Path) -> str | None:
    """Parquet or Arrow, by the first bytes; None: text, compressed or not.

    Raises:
        UsageError: the file is of a known kind that is not read; the message says how to convert it.
    """
    beginning = first_bytes(path)
    if beginning.startswith(b"PAR1"):
        return PARQUET
    if beginning.startswith((b"ARROW1", b"FEA1", b"\xff\xff\xff\xff")):
        return ARROW
    for magic, what in _STRANGERS:
        if beginning.startswith(magic):
            raise UsageError(f"{path}: is {what.replace('FILE', str(path))}")
    if beginning.startswith(b"PK\x03\x04") and (b"[Content_Types]" in beginning or path.suffix in (".xlsx", ".ods")):
        raise UsageError(f"{path}: is a spreadsheet: save it as CSV, with times as 2014-07-23 12:34:56")
    return None


def read_raw_table(path: Path, format: str, *, progress: OnBytes | None = None) -> Raw:
    """Read every column of a file.

    Args:
        path: the file; JSON may be compressed.
        format: :data:`PARQUET`, :data:`ARROW` or :data:`JSON`.
        progress: receives the bytes read.

    Raises:
        UsageError: the file does not exist.
        CocorrrecError: it is damaged.
    """
    try:
        if format == JSON:
            frame = _read_json(path, progress)
        else:
            read = pl.read_parquet if format == PARQUET else _read_arrow
            frame = read(path)
            if progress is not None:
                progress(path.stat().st_size, path.stat().st_size)
    except (pl.exceptions.PolarsError, OSError, pl.exceptions.PanicException) as error:
        raise CocorrrecError(f"{path}: not a complete {format} file: {str(error).splitlines()[0]}") from None
    if frame.is_empty():
        raise CocorrrecError(f"{path}: holds no row")
    return Raw(str(path), _flatten(frame), True, lambda row: f"{path}, row {row + 1}")


def _read_arrow(path: Path) -> pl.DataFrame:
    stream = first_bytes(path).startswith(b"\xff\xff\xff\xff")
    return pl.read_ipc_stream(path) if stream else pl.read_ipc(path)


def _read_json(path: Path, progress: OnBytes | None) -> pl.DataFrame:
    data = b"".join(read_chunks(path, limit=MAX_BYTES, progress=progress))
    check_zero_bytes(path, data)
    if data.lstrip().startswith(b"["):
        return pl.read_json(io.BytesIO(data), infer_schema_length=None)
    return pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)


def _flatten(frame: pl.DataFrame) -> pl.DataFrame:
    """Objects inside objects as columns named ``outer.inner``."""
    for _ in range(_DEPTH):
        nested = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Struct)]
        if not nested:
            break
        for name in nested:
            fields = frame[name].struct.unnest()
            frame = frame.drop(name).hstack(fields.rename({field: f"{name}.{field}" for field in fields.columns}))
    return frame
