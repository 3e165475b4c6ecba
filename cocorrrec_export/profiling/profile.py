"""Profile an artifact: from its folder and a machine to ``profile.json`` and the report."""

import contextlib
import dataclasses
import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocorrrec_export.artifact.copies import checked_copy
from cocorrrec_export.artifact.manifest import MANIFEST, VECTORS, Artifact, newest_artifact, open_artifact
from cocorrrec_export.errors import UsageError
from cocorrrec_export.extras import installed, require
from cocorrrec_export.files import publish_directory, sha256_file
from cocorrrec_export.modeling.curves import FlopCurve
from cocorrrec_export.modeling.store import ModelFolder, find_model, open_model, shipped_models
from cocorrrec_export.parity.vectors import read_vectors
from cocorrrec_export.profiling.kept import Kept, keep_on_failure
from cocorrrec_export.profiling.machines.open import OpenMachine, targets_on_host
from cocorrrec_export.profiling.machines.runs import Program, is_hot
from cocorrrec_export.profiling.measure import Settings, Subject, chosen_entry_points, measure, measure_shapes, slopes
from cocorrrec_export.profiling.report.document import assemble
from cocorrrec_export.profiling.report.page import owned_files, write_report
from cocorrrec_export.targets import with_runner


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to profile, next to the artifact and the machine."""

    settings: Settings
    lengths: tuple[int, ...] = ()
    candidates: tuple[int, ...] = ()
    model: str | None = None
    """Of the artifact; by default the shipped one of the manifest's name."""


def choose_artifact(path: Path | None, dist: Path, architecture: str | None, *, host: bool) -> Artifact:
    """The artifact in ``path``, or the newest under ``dist`` that can be profiled; every hash is checked.

    Args:
        path: the artifact's folder; None takes the newest.
        dist: where to look for it.
        architecture: of which it must be; None takes any.
        host: it is profiled on this machine, else on a phone.

    Raises:
        UsageError: there is none, or it is of another architecture.
        CocorrrecError: it is damaged.
    """
    if path is None:
        targets = targets_on_host() if host else with_runner()
        path = newest_artifact(dist, architecture=architecture, targets=targets)
    return open_artifact(path, architecture=architecture)


def profile(
    artifact: Artifact, open_machine: OpenMachine, request: Request, output: Path, *, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Measure, write the folder ``output``, and return the document.

    Raises:
        UsageError: something is asked for that the artifact does not have, or ``output`` holds other files.
        CocorrrecError: the machine or a run failed, and nothing is written; or the report of a profile could not be
            written, and the message says where the figures are.
    """
    with keep_on_failure() as kept, publish_directory(output, owned_files) as staging:
        document = _measured(artifact, open_machine, request, kept, progress)
        progress("drawing the report")
        write_report(staging, document, (artifact.path / MANIFEST).read_bytes())
    return document


def _measured(
    artifact: Artifact,
    open_machine: OpenMachine,
    request: Request,
    kept: Kept,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """The document of a profile, which ``kept`` holds as soon as there is one."""
    if request.settings.per_operator and artifact.target not in with_runner():
        known = " and ".join(with_runner())
        raise UsageError(f"--per-operator is for {known} files: nothing traces {artifact.target} files")
    subject = _subject(artifact)
    chosen_entry_points(subject.program, request.settings.entry_points)
    model = _model_of(artifact, request.model)
    wanted = _shapes_wanted(artifact, model, request)
    with contextlib.ExitStack() as stack:
        subject = dataclasses.replace(
            subject, program=Program(stack.enter_context(checked_copy(artifact)), artifact.entry_points)
        )
        opened = stack.enter_context(open_machine(artifact.target, progress))
        facts, before = opened.machine.facts(), opened.machine.state()
        measured = measure(opened.machine, subject, request.settings, progress)
        kept.figures = {"machine": facts | {"before": before}, **measured}
        shapes = None
        if wanted and model is not None:
            from cocorrrec_export.profiling.shapes import ENTRY_POINTS, export_shapes

            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cocorr-profile-")))
            recipe, names = artifact.recipe, request.settings.entry_points or ENTRY_POINTS
            made = export_shapes(model, recipe, wanted, names, folder, progress=progress)
            rows = measure_shapes(opened.machine, made, request.settings, progress)
            shapes = {"rows": rows, "per_token": slopes(rows)}
            kept.figures |= {"shapes": shapes}
        after = opened.machine.state()
    progress("counting FLOPs")
    flops = _flops(model) if model is not None and installed("torch") else ()
    kept.figures = assemble(
        artifact=_describe(artifact, model),
        machine=facts | {"before": before, "after": after, "throttled": is_hot(before) or is_hot(after)},
        runner={"runtime": opened.runtime, "id": opened.package_id},
        settings={
            "iterations": request.settings.iterations,
            "warmup": request.settings.warmup,
            "threads": list(request.settings.threads),
        },
        measured=measured,
        flops=flops,
        entry_flops=artifact.manifest["flops"],
        shapes=shapes,
    )
    return kept.figures


def _subject(artifact: Artifact) -> Subject:
    entry_points = artifact.entry_points
    contracts = {entry.name: entry for entry in entry_points}
    vectors = read_vectors(artifact.vectors, contracts, sha256=artifact.digest(VECTORS))
    return Subject(Program(artifact.program, entry_points), vectors, artifact.limits)


def _model_of(artifact: Artifact, given: str | None) -> ModelFolder | None:
    """The model that the artifact was made from; None where it is not at hand."""
    name, made_from = artifact.manifest["model"]["name"], artifact.manifest["model"]["sha256"]
    if given is None and name not in shipped_models():
        return None
    folder = open_model(find_model(given or name))
    if folder.sha256 == made_from:
        return folder
    if given is None:
        return None
    raise UsageError(f"{artifact.path} was made from a model with sha256 {made_from[:16]}..., {folder.path} is another")


def _shapes_wanted(artifact: Artifact, model: ModelFolder | None, request: Request) -> list[tuple[int, int]]:
    if not request.lengths and not request.candidates:
        return []
    require(artifact.target, "--lengths and --candidates export again")
    if model is None:
        raise UsageError(
            f"--lengths and --candidates export again, and the model '{artifact.manifest['model']['name']}' is not at "
            "hand: give its folder with --model"
        )
    length, candidates = model.config.sequence_length, _candidates(artifact) or 0
    shapes = [(other, candidates) for other in request.lengths] + [(length, other) for other in request.candidates]
    return list(dict.fromkeys(shapes))


def _flops(model: ModelFolder) -> tuple[FlopCurve, ...]:
    """Of the whole model, as the paper counts."""
    from cocorrrec_export.modeling.flops import flop_curves

    return flop_curves(model.config)


def _candidates(artifact: Artifact) -> int | None:
    found: int | None = artifact.manifest["recipe"].get("shapes", {}).get("candidates")
    return found


def _describe(artifact: Artifact, model: ModelFolder | None) -> dict[str, Any]:
    manifest = artifact.manifest
    program = artifact.program
    return {
        "name": artifact.path.resolve().name,
        "kind": artifact.kind,
        "target": artifact.target,
        "precision": manifest["precision"],
        "model": manifest["model"]["name"],
        "model_sha256": manifest["model"]["sha256"],
        "program": program.name,
        "bytes": artifact.bytes,
        "sha256": _program_digest(artifact),
        "manifest_sha256": sha256_file(artifact.path / MANIFEST),
        "sequence_length": model.config.sequence_length if model else None,
        "candidates": _candidates(artifact),
        "flops_per_token": manifest["flops_per_token"],
    }


def _program_digest(artifact: Artifact) -> str:
    """Of the program's file; of its names and digests, where it is a folder."""
    name = artifact.program.name
    digests = {file["path"]: file["sha256"] for file in artifact.manifest["files"]}
    if name in digests:
        found: str = digests[name]
        return found
    lines = (f"{digest}  {path}\n" for path, digest in sorted(digests.items()) if path.startswith(f"{name}/"))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def output_folder(given: Path | None, artifact: Artifact, machine: str) -> Path:
    """Where the report goes: what the user said, or a folder of its own for each artifact and machine."""
    safe = "".join(c if c.isalnum() or c in "-._" else "-" for c in machine)
    return given or Path("profiles") / f"{artifact.path.resolve().name}-{safe}"
