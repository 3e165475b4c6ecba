"""``cocorr-export inspect``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options

EPILOG = """
Examples:

  cocorr-export inspect dist/scn-executorch-int8

  cocorr-export inspect scn.tflite

  cocorr-export inspect dist/scn-executorch-int8 --items

  cocorr-export inspect app/Resources/scn.mlpackage --json
"""


def inspect(
    path: Annotated[Path, typer.Argument(help="An exported file, or the folder of an export.")],
    items: Annotated[
        bool, typer.Option("--items", help="Print the app's ids of the items instead, by the program's numbers.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Print what an exported file reports about itself: entry points, shapes, precision, digest, and sizes by part.

    No manifest is needed: the same facts are inside each file. One that is damaged is refused.
    """
    from cocorrrec_export.artifact.inspect import inspect as read

    if items:
        _print_items(path, json=json)
        return
    found = read(path)
    if json:
        console.print_json(found.as_dict())
        return
    rows = [["target", found.target], ["bytes", f"{found.bytes:,}"], ["content checked by", found.checked_by]]
    rows += [[key, str(value)] for key, value in found.facts.metadata.items() if key != "tensor_names"]
    console.print_table(str(found.program), ("", ""), rows)
    entry_points = (
        [
            entry.name,
            *(", ".join(f"{x.name} {x.dtype} {list(x.shape)}" for x in side) for side in (entry.inputs, entry.outputs)),
        ]
        for entry in found.facts.entry_points
    )
    console.print_table("entry points", ("", "inputs", "outputs"), entry_points)
    if found.parts:
        sizes = ([part, f"{size:,}", f"{size / found.bytes:.1%}"] for part, size in found.parts.items())
        console.print_table("size by part", ("", "bytes", "share"), sizes)


def _print_items(path: Path, *, json: bool) -> None:
    from cocorrrec_export.artifact.items import open_items
    from cocorrrec_export.artifact.manifest import open_artifact

    artifact = open_artifact(path)
    found = open_items(artifact)
    titles = found.titles or (None,) * len(found)
    if json:
        listed = [{"id": n, "item": x, "title": t} for n, (x, t) in enumerate(zip(found.ids, titles, strict=True), 1)]
        console.print_json(artifact.manifest["items"] | {"items": listed})
        return
    rows = ([str(n), x, t or ""] for n, (x, t) in enumerate(zip(found.ids, titles, strict=True), start=1))
    console.print_table(str(path), ("number", "item", "title"), rows)
