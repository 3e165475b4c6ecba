"""Export a model, and open, check and profile what was exported."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cocorrrec_export.api.models import Model, name_of
from cocorrrec_export.artifact import manifest
from cocorrrec_export.artifact.manifest import Artifact
from cocorrrec_export.errors import UsageError
from cocorrrec_export.extras import require
from cocorrrec_export.targets import Kind, find_target

if TYPE_CHECKING:
    from cocorrrec_export.parity.outcome import Verdict
    from cocorrrec_export.runtime.base import Runtime

Progress = Callable[[str], None]
"""Receives what is being done."""


def _silent(_step: str) -> None: ...


def _path(file: "str | Path | None") -> Path | None:
    return None if file is None else Path(file)


def export(
    kind: Kind,
    target: str,
    *,
    precision: str | None = None,
    recipe: str | Path | None = None,
    model: Model = None,
    architecture: str | None = None,
    data: str | Path | None = None,
    candidates: int | None = None,
    recommend: int | None = None,
    calibrate: str | Path | None = None,
    out: str | Path = "dist",
    progress: Progress = _silent,
) -> Artifact:
    """Export one half of a model, and prove that the file still ranks the same; nothing is written where it does not.

    Args:
        kind: ``scn``, the on-device model or a baseline; ``gcn``, the cloud model.
        target: ``executorch``, ``coreml``, ``tflite`` or ``onnx``; of a ``gcn``, ``onnx``.
        precision: ``fp32`` (the default), ``fp16``, ``int8``, ``int4``, ``pq16`` or ``pq8``.
        recipe: TOML file of your own recipe, instead of ``precision``.
        model: a ready model's name, or a folder; None is the default ready model.
        architecture: what the model must be; None takes any.
        data: interactions to check the ranking with; None takes the held-out users that the model's folder has.
        candidates: C, the items of one call; None is the recipe's.
        recommend: K, adds the entry point that gives the K best items of the whole catalog; None is the recipe's.
        calibrate: interactions to fit the codes of ``pq16`` and ``pq8`` to, by training clicks alone; None fits them to
            the item table.
        out: parent of the folder that is written, ``scn-executorch-int8`` for example.
        progress: receives what is being done.

    Returns:
        The folder: ``.path``, ``.program`` (the file), ``.bytes`` (its size), ``.manifest``.

    Raises:
        ParityError: the file is beyond the recipe's limits.
        UsageError: there is no such target, precision or model, or the model does not have that half; or
            ``calibrate`` with another precision than ``pq16`` and ``pq8``.
        CocorrrecError: the target's extra is not installed, the model is damaged, ``calibrate`` holds other items than
            the model's, or the disk is full.
    """
    from cocorrrec_export.artifact.recipe import choose_recipe, require_codes

    found = choose_recipe(kind, target, precision=precision, recipe_file=_path(recipe))
    chosen = found.with_candidates(candidates).with_recommend(recommend)
    if calibrate is not None:
        require_codes(chosen)
        require("pq")
    require(find_target(target).extra)
    from cocorrrec_export.export import pipeline

    source = pipeline.open_source(name_of(model), _path(data), architecture=architecture)
    if calibrate is not None:
        from cocorrrec_export.training.calibration import calibrate as fit

        progress("fitting codes to clicks")
        calibrated = fit(source.folder, source.model, Path(calibrate), chosen.embedding)
        source = dataclasses.replace(source, calibrated=calibrated)
    return pipeline.export(source, chosen, Path(out), progress=progress)


def open_artifact(path: str | Path, *, architecture: str | None = None) -> Artifact:
    """Open an exported folder, after a check of its manifest and of the size and SHA-256 of every file.

    Args:
        path: the folder.
        architecture: what it must have been made from; None takes any.

    Returns:
        The folder: ``.program`` (the file), ``.entry_points`` (names, dtypes and shapes), ``.manifest``.

    Raises:
        UsageError: it is of another architecture.
        CocorrrecError: it is not an export, or a file is missing, changed or damaged; all of it is named.
    """
    return manifest.open_artifact(Path(path), architecture=architecture)


def open_runtime(artifact: Artifact) -> "Runtime":
    """Load an exported file in its own runtime: ExecuTorch, LiteRT, ONNX Runtime, or numpy for Core ML on Linux.

    ``runtime.run("rank", {"ids": ids, "candidates": candidates})["scores"]`` takes ``ids [1, L]`` int32, the last
    clicks, oldest first, right-padded with 0, and ``candidates [1, C]`` int32; it gives ``[1, C]`` float32, larger is
    better. ``runtime.entry_points`` has the shapes of the other entry points.

    Args:
        artifact: of ``open_artifact`` or ``export``.

    Returns:
        The loaded file. Its ``run`` raises CocorrrecError for inputs that do not fit.

    Raises:
        CocorrrecError: the runtime is not installed, or cannot load the file.
    """
    from cocorrrec_export.runtime.open import open_runtime as load

    return load(artifact.target, artifact.program, artifact.entry_points)


def check_parity(
    artifact: Artifact | str | Path,
    *,
    model: Model = None,
    data: str | Path | None = None,
    recipe: str | Path | None = None,
    vectors_only: bool = False,
    progress: Progress = _silent,
) -> "Verdict":
    """Check an exported file again through its own runtime: hashes, tensors, and how it ranks.

    Args:
        artifact: the folder, or what ``export`` returned.
        model: what it was made from; None is the ready model of the manifest's name.
        data: interactions to rank; None takes the held-out users that the model's folder has.
        recipe: TOML file of your own recipe, whose limits count instead.
        vectors_only: compare the test vectors alone, which needs neither the model nor torch.
        progress: receives what is being done.

    Returns:
        Differences from the float32 model: ``.tensors.max_abs`` (in the unit of a score),
        ``.tensors.top10_overlap`` (0 to 1), ``.ranking.metrics``; ``.as_dict()`` for JSON.

    Raises:
        ParityError: the file is beyond the limits.
        UsageError: ``model`` is not what it was made from, or ``vectors_only`` with a model or data.
        CocorrrecError: a file is missing, changed or damaged, or the runtime is not installed.
    """
    from cocorrrec_export.artifact.recipe import load_recipe

    path = artifact.path if isinstance(artifact, Artifact) else Path(artifact)
    limits = load_recipe(Path(recipe)).limits if recipe is not None else None
    if vectors_only:
        if model is not None or data is not None:
            raise UsageError("vectors_only compares with the test vectors alone: leave model and data out")
        from cocorrrec_export.artifact.copies import checked_copy
        from cocorrrec_export.export.vectors import check_vectors

        opened = open_artifact(path)
        with checked_copy(opened) as program:
            _, verdict = check_vectors(opened, program, progress, limits=limits)
        return verdict
    require("train", "or compare the test vectors alone with vectors_only=True")
    from cocorrrec_export.export import pipeline

    return pipeline.check(path, model=name_of(model), data=_path(data), limits=limits, progress=progress)


def profile(
    artifact: Artifact | str | Path,
    out: str | Path | None = None,
    *,
    host: bool = True,
    device: str | None = None,
    entry_points: Sequence[str] = (),
    threads: Sequence[int] = (1,),
    iterations: int = 200,
    candidates: Sequence[int] = (),
    lengths: Sequence[int] = (),
    per_operator: bool = False,
    model: Model = None,
    timeout_s: float = 120,
    cool_down_s: float = 300,
    progress: Progress = _silent,
) -> dict[str, Any]:
    """Measure latency, cold load, memory and FLOPs of an exported file, here or on a phone, and write the report.

    Args:
        artifact: the folder, or what ``export`` returned.
        out: folder of ``report.html`` and ``profile.json``; None is ``profiles/EXPORT-MACHINE``.
        host: on this computer; False takes the connected Android phone.
        device: serial of a phone; implies a phone.
        entry_points: only these; none are all.
        threads: numbers of threads to try.
        iterations: timed calls of each entry point.
        candidates: export again for these numbers of candidates, and measure.
        lengths: export again for these sequence lengths: memory per token.
        per_operator: trace each operator too (ExecuTorch, LiteRT).
        model: what it was made from; None is the ready model of the manifest's name.
        timeout_s: seconds that one run may take.
        cool_down_s: seconds to wait for a hot phone to cool.
        progress: receives what is being done.

    Returns:
        What ``profile.json`` holds: latencies in microseconds (``p50_us``), memory in kB and bytes, and the verdict.

    Raises:
        UsageError: something is asked for that the file does not have, or ``out`` holds other files.
        CocorrrecError: an extra is not installed, no phone is connected, or a run failed.
    """
    require("profile")
    from cocorrrec_export.profiling.machines.open import machine_opener
    from cocorrrec_export.profiling.measure import Settings
    from cocorrrec_export.profiling.profile import Request, output_folder
    from cocorrrec_export.profiling.profile import profile as measure

    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    here = host and device is None
    settings = Settings(
        iterations=iterations,
        threads=tuple(threads),
        entry_points=tuple(entry_points),
        per_operator=per_operator,
    )
    request = Request(settings=settings, lengths=tuple(lengths), candidates=tuple(candidates), model=name_of(model))
    place = output_folder(_path(out), opened, "host" if here else device or "device")
    opener = machine_opener(host=here, serial=device, timeout_s=timeout_s, cool_down_s=cool_down_s)
    return measure(opened, opener, request, place, progress=progress)
