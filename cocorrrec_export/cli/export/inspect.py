"""``cocorr-export inspect``."""

from pathlib import Path
from typing import Annotated

import typer

from cocorrrec_export.cli import console, options

EPILOG = """
Examples:

  cocorr-export inspect dist/scn-executorch-int8

  cocorr-export inspect scn.tflite

  cocorr-export inspect app/Resources/scn.mlpackage --json
"""


def inspect(
    path: Annotated[Path, typer.Argument(help="An exported file, or the folder of an export.")],
    json: options.Json = False,
) -> None:
    """Print what an exported file reports about itself: entry points, shapes, precision, digest, and sizes by part.

    No manifest is needed: the same facts are inside each file. One that is damaged is refused.
    """
    from cocorrrec_export.artifact.inspect import inspect as read

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
