"""A program that nobody changes between its check and its use."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cocorrrec_export.artifact.manifest import MANIFEST, Artifact
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.files import contained_path, naming


@contextmanager
def checked_copy(artifact: Artifact) -> Iterator[Path]:
    """The program in a folder of this process's own, each byte read once: hashed, and kept if it is the manifest's.

    Native runtimes open files by name, and the name may meanwhile stand for another file. The copy is removed at the
    end of the block; what loads it must have read it by then.

    Raises:
        CocorrrecError: a file is not the one that the manifest names, any more.
    """
    name = artifact.program.name
    with tempfile.TemporaryDirectory(prefix="cocorr-checked-") as folder:
        for file in artifact.manifest["files"]:
            path = str(file["path"])
            if path != name and not path.startswith(f"{name}/"):
                continue
            data = contained_path(artifact.path, path, where=str(artifact.path / MANIFEST)).read_bytes()
            if hashlib.sha256(data).hexdigest() != file["sha256"]:
                raise CocorrrecError(f"{artifact.path}: {path} changed after it was checked: run this again")
            copy = Path(folder) / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            with naming(copy):
                copy.write_bytes(data)
        yield Path(folder) / name
