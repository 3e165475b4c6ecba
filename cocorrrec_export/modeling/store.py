"""A model on disk: a folder with ``model.toml`` and ``weights.safetensors``. Nothing in it is ever executed."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from safetensors import SafetensorError, safe_open

from cocorrrec_export import __version__
from cocorrrec_export.arrays import read_named
from cocorrrec_export.errors import CocorrrecError, UsageError, nearest
from cocorrrec_export.files import publish_file, sha256_file
from cocorrrec_export.modeling.config import ModelConfig, check_architecture
from cocorrrec_export.resources import DEFAULT_MODEL, MODELS_DIR, MODELS_DISTRIBUTION, NO_MODELS
from cocorrrec_export.toml import read_toml

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cocorrrec_export.modeling.ranker import Ranker

FORMAT = 1
_KEYS = {"format", "name", "toolkit_version", "weights_sha256", "config", "data", "training", "metrics"}


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """What ``model.toml`` says, checked; the weights are read by :func:`load_model`."""

    path: Path
    name: str
    config: ModelConfig
    sha256: str
    """Digest of ``weights.safetensors``, which stands for the model everywhere."""
    data: dict[str, Any] = field(default_factory=dict)
    """Where the item ids come from: filters, and the digest of the vocabulary."""
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def weights_path(self) -> Path:
        """The tensors."""
        return self.path / "weights.safetensors"

    @property
    def evaluation_path(self) -> Path:
        """The held-out slice; not every model ships one."""
        return self.path / "evaluation.safetensors"

    @property
    def items_path(self) -> Path:
        """External ids and titles of the items; not every model ships them."""
        return self.path / "items.csv.gz"


def shipped_models() -> dict[str, Path]:
    """The folders of the models that ship, by their names."""
    return {path.parent.name: path.parent for path in sorted(MODELS_DIR.glob("*/model.toml"))}


def find_model(name_or_path: str | None, architecture: str | None = None) -> Path:
    """The folder of a shipped model by its name, or of the user's own by its path.

    Args:
        name_or_path: None takes the shipped model of the architecture, or the default one.
        architecture: what the model must be; None takes any.

    Raises:
        UsageError: there is none, or it is of another architecture; the message lists what there is.
    """
    if architecture is not None:
        check_architecture(architecture)
    if name_or_path is None:
        return _shipped_model(architecture) if architecture else _named_model(DEFAULT_MODEL)
    path = _named_model(name_or_path)
    if architecture and (actual := _architecture_of(path)) != architecture:
        raise UsageError(
            f"{path} is a {actual}, not a {architecture}: leave out --architecture, or give another --model"
        )
    return path


def _shipped_model(architecture: str) -> Path:
    """The shipped model of an architecture, before others the one on MovieLens, whose held-out users ship too."""
    found = [path for path in shipped_models().values() if _architecture_of(path) == architecture]
    if not found:
        raise UsageError(
            f"no model of {architecture} ships: train one with 'cocorr-export train --architecture {architecture}', "
            "and give its folder with --model"
        )
    return next((path for path in found if path.name.endswith("-movielens")), found[0])


def _architecture_of(path: Path) -> str:
    """What ``model.toml`` says; :func:`open_model` checks the rest."""
    config = read_toml(path / "model.toml").get("config")
    return str(config.get("architecture", "cocorrrec")) if isinstance(config, dict) else "cocorrrec"


def _named_model(name_or_path: str) -> Path:
    shipped = shipped_models()
    if not shipped and name_or_path == DEFAULT_MODEL:
        raise UsageError(f"{NO_MODELS}, or give the folder of your own with --model")
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    if (path / "model.toml").is_file():
        return path
    if path.is_dir():
        raise UsageError(f"{path} holds no model.toml: not a model folder (train one with 'cocorr-export train')")
    there = nearest(name_or_path, shipped) if shipped else f"pip install {MODELS_DISTRIBUTION}"
    raise UsageError(f"unknown model '{name_or_path}': not a shipped model ({there}) and not a folder")


def open_model(path: Path) -> ModelFolder:
    """Read and check ``model.toml``, and check that the weights are the ones it was written for.

    Raises:
        CocorrrecError: a file is missing, damaged, of another format, or the digest does not match.
        UsageError: a key or value of the config is wrong.
    """
    where = path / "model.toml"
    table = read_toml(where)
    if table.get("format") != FORMAT:
        raise CocorrrecError(f"{where}: format is {table.get('format')!r}, this version reads {FORMAT}")
    problems = [f"unknown key '{key}' ({nearest(key, _KEYS)})" for key in table if key not in _KEYS]
    for key, kind in (("name", str), ("weights_sha256", str), ("config", dict)):
        if not isinstance(table.get(key), kind):
            problems.append(f"'{key}' must be a {'table' if kind is dict else 'string'}")
    problems += [f"'{key}' must be a table" for key in ("data", "training", "metrics") if not _is_table(table, key)]
    if problems:
        raise CocorrrecError(f"{where}: " + "; ".join(problems))
    folder = ModelFolder(
        path=path,
        name=table["name"],
        config=ModelConfig.from_dict(table["config"], where=f"{where}, [config]"),
        sha256=table["weights_sha256"],
        **{key: table.get(key, {}) for key in ("data", "training", "metrics")},
    )
    if not folder.weights_path.is_file():
        raise CocorrrecError(f"{path}: weights.safetensors is missing")
    actual = sha256_file(folder.weights_path)
    if actual != folder.sha256:
        raise CocorrrecError(
            f"{folder.weights_path}: damaged or replaced: sha256 is {actual[:16]}..., "
            f"model.toml says {folder.sha256[:16]}...; copy the model again"
        )
    return folder


def _is_table(table: dict[str, Any], key: str) -> bool:
    return isinstance(table.get(key, {}), dict)


def load_model(folder: ModelFolder) -> "Ranker":
    """The model with the weights of ``folder``, in evaluation mode, on the CPU.

    Raises:
        CocorrrecError: the tensors are not those of the config (names, shapes, float32), or not finite.
    """
    from cocorrrec_export.modeling.build import build_model

    model = build_model(folder.config)
    tensors = read_tensors(folder.weights_path)
    expected = model.state_dict()
    problems = [f"missing tensor {name}" for name in expected if name not in tensors]
    problems += [f"unexpected tensor {name}" for name in tensors if name not in expected]
    for name in expected.keys() & tensors.keys():
        have, want = tensors[name], expected[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            problems.append(
                f"{name} is {have.dtype} {list(have.shape)}, the config wants {want.dtype} {list(want.shape)}"
            )
        elif not bool(have.isfinite().all()):
            problems.append(f"{name} holds values that are not finite")
    if problems:
        raise CocorrrecError(f"{folder.weights_path}: " + "; ".join(sorted(problems)))
    model.load_state_dict(tensors)
    return model.eval()


def count_parameters(folder: ModelFolder) -> int:
    """Number of weights, read from the header of the weights' file alone."""
    with safe_open(folder.weights_path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """All tensors of a safetensors file.

    Raises:
        CocorrrecError: the file is missing, truncated or damaged.
    """
    return read_named(path, "pt")


def write_tensors(tensors: "dict[str, Tensor]", path: Path) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        CocorrrecError: the disk is full or read-only.
    """
    from safetensors.torch import save_file

    with publish_file(path) as staging:
        try:
            save_file({name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}, staging)
        except SafetensorError as error:
            raise CocorrrecError(f"{path}: cannot be written: {error}") from None


def save_model(
    path: Path,
    model: "nn.Module",
    config: ModelConfig,
    *,
    name: str,
    data: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
) -> ModelFolder:
    """Write ``weights.safetensors`` and ``model.toml`` into the folder ``path``, which must exist."""
    weights = path / "weights.safetensors"
    write_tensors(model.state_dict(), weights)
    table = {
        "format": FORMAT,
        "name": name,
        "toolkit_version": __version__,
        "weights_sha256": sha256_file(weights),
        "config": dataclasses.asdict(config),
        "data": data or {},
        "training": training or {},
        "metrics": metrics or {},
    }
    with publish_file(path / "model.toml") as staging:
        staging.write_bytes(tomli_w.dumps(table).encode())
    return open_model(path)
