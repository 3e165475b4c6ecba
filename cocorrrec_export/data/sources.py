"""From the ``[data]`` table and a file, of any format or a prepared data set, to interactions."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from cocorrrec_export import __version__
from cocorrrec_export.data.files.columns import Columns
from cocorrrec_export.data.files.detection import AUTO, check_format, facts_of
from cocorrrec_export.data.files.reading import Reading
from cocorrrec_export.data.files.streaming import OnBytes
from cocorrrec_export.data.interactions import Filters, Interactions, load_interactions
from cocorrrec_export.data.prepared import is_cut, read_cut, read_origin, write_cut
from cocorrrec_export.errors import CocorrrecError, UsageError
from cocorrrec_export.toml import check_types, from_table


@dataclass(frozen=True)
class DataSource:
    """The ``[data]`` table: how to read a file of interactions."""

    columns: Columns = field(default_factory=Columns)
    filters: Filters = field(default_factory=Filters)
    format: str = AUTO
    reading: Reading = field(default_factory=Reading)

    def __post_init__(self) -> None:
        check_types(self)
        check_format(self.format)

    @classmethod
    def from_dict(cls, values: dict[str, Any], *, where: str) -> Self:
        """Build from parsed TOML; ``where`` names the file and table in errors.

        Raises:
            UsageError: an unknown key or a value of the wrong type.
        """
        for key in ("columns", "filters", "reading"):
            if not isinstance(values.get(key, {}), dict):
                raise UsageError(f"{where}: {key} must be a table")
        parts = {
            "columns": from_table(Columns, values.get("columns", {}), where=f"{where}.columns"),
            "filters": from_table(Filters, values.get("filters", {}), where=f"{where}.filters"),
            "reading": from_table(Reading, values.get("reading", {}), where=f"{where}.reading"),
        }
        return from_table(cls, values | parts, where=where)

    def as_table(self) -> dict[str, Any]:
        """The same as TOML tables."""
        return {
            "format": self.format,
            "columns": asdict(self.columns),
            "filters": asdict(self.filters),
            "reading": asdict(self.reading),
        }


def load_source(path: Path, source: DataSource, *, progress: OnBytes | None = None) -> Interactions:
    """Read, filter and order the interactions of ``path``; a prepared data set is all of that already.

    Raises:
        UsageError: the file does not exist, lacks a column, or is a prepared data set with other filters.
        CocorrrecError: it is damaged, has a bad row, or nothing is left of it.
    """
    return read_source(path, source, progress=progress)[0]


def read_source(path: Path, source: DataSource, *, progress: OnBytes | None = None) -> tuple[Interactions, DataSource]:
    """:func:`load_source` and :func:`resolve_source` in one reading.

    Raises:
        UsageError: as there.
        CocorrrecError: as there.
    """
    if is_cut(path):
        cut = read_cut(path)
        return cut.interactions, _made_with(path, cut.origin, source)
    interactions = load_interactions(
        path,
        columns=source.columns,
        reading=source.reading,
        filters=source.filters,
        format=source.format,
        progress=progress,
    )
    return interactions, source


def resolve_source(path: Path, source: DataSource) -> DataSource:
    """``source``, or what a prepared data set was made with: a model trained from it names the filters used.

    Of a prepared data set the header alone is read.

    Raises:
        UsageError: ``path`` is a prepared data set, and ``source`` asks for other filters than its own.
        CocorrrecError: its header is damaged.
    """
    return _made_with(path, read_origin(path), source) if is_cut(path) else source


def make_cut(
    path: Path, source: DataSource, out: Path, *, user_ids: bool = True, progress: OnBytes | None = None
) -> Interactions:
    """Read a file, and write its cut.

    Args:
        path: the original file.
        source: how to read it, and what to keep.
        out: the prepared data set.
        user_ids: keep the users' external ids in it.
        progress: receives the bytes read.

    Raises:
        UsageError: as :func:`load_source`, or ``path`` is a prepared data set already.
        CocorrrecError: as :func:`load_source`.
    """
    if is_cut(path):
        raise UsageError(f"{path}: is a prepared data set already; give the file that it was made from")
    interactions = load_source(path, source, progress=progress)
    origin = {"toolkit_version": __version__, "file": facts_of(path), "data": source.as_table()}
    write_cut(out, interactions, origin, user_ids=user_ids)
    return interactions


def _made_with(path: Path, origin: dict[str, Any], source: DataSource) -> DataSource:
    """What a prepared data set was made with, if ``source`` does not ask for anything else."""
    try:
        made = DataSource.from_dict(dict(origin["data"]), where=f"{path}, [data]")
    except (KeyError, TypeError, ValueError):
        raise CocorrrecError(f"{path}: a prepared data set that does not say how it was made; make it again") from None
    if source.filters not in (made.filters, Filters()):
        raise UsageError(
            f"{path}: was cut with {_say(made.filters)}, and cannot be filtered again with {_say(source.filters)}: "
            f"leave the filters out, or make another cut of the original file"
        )
    return made


def _say(filters: Filters) -> str:
    """The filters that do something."""
    given = {name: value for name, value in asdict(filters).items() if value not in (0, "", "none")}
    return ", ".join(f"{name} {value}" for name, value in given.items())
