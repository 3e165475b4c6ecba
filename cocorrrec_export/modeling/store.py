"""A model on disk: a folder with ``model.toml`` and ``weights.safetensors``. Nothing in it is ever executed."""

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from safetensors import SafetensorError, safe_open

from cocorrrec_export import __version__, strict_json
from cocorrrec_export.arrays import DIGEST, check_header, digest_of, read_named
from cocorrrec_export.errors import CocorrrecError, UsageError, nearest
from cocorrrec_export.files import publish_file, sha256_file
from cocorrrec_export.modeling.config import ModelConfig, check_architecture
from cocorrrec_export.resources import DEFAULT_MODEL, MODELS_DIR, MODELS_DISTRIBUTION, NO_MODELS
from cocorrrec_export.toml import read_toml

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cocorrrec_export.modeling.ranker import Ranker

FORMAT = 1
MOST_PROBLEMS = 5
"""Of a file of tensors, in an error."""
_TABLES = ("config", "data", "training", "metrics", "files")
_DIGESTS = ("weights_sha256", "sha256", "content_sha256")
_KEYS = {"format", "name", "toolkit_version", *_DIGESTS, *_TABLES}
_BESIDE = ("evaluation.safetensors", "items.csv.gz")


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """What ``model.toml`` says, checked; the weights are read by :func:`load_model`."""

    path: Path
    name: str
    config: ModelConfig
    sha256: str
    """Digest of configuration and weights together: it stands for the model everywhere."""
    weights_sha256: str
    files: dict[str, str] = field(default_factory=dict)
    """Digests of what lies next to, such as the held-out slice."""
    verified: bool = False
    """Whether ``model.toml`` has a digest of itself; older ones have none."""
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
    problems = _structure_problems(table)
    if problems:
        raise CocorrrecError(f"{where}: " + "; ".join(problems))
    folder = ModelFolder(
        path=path,
        name=table["name"],
        config=ModelConfig.from_dict(table["config"], where=f"{where}, [config]"),
        sha256=_identity(table),
        weights_sha256=table["weights_sha256"],
        verified="content_sha256" in table,
        **{key: table.get(key, {}) for key in ("data", "training", "metrics", "files")},
    )
    if not folder.weights_path.is_file():
        raise CocorrrecError(f"{path}: weights.safetensors is missing")
    _check_digest(folder.weights_path, sha256_file(folder.weights_path), folder.weights_sha256)
    for key, computed in (("sha256", folder.sha256), ("content_sha256", _content_digest(table))):
        if table.get(key, computed) != computed:
            raise CocorrrecError(
                f"{where}: changed after it was written: {key} is {computed[:16]}..., it says {table[key][:16]}...; "
                "copy the model again"
            )
    return folder


def _structure_problems(table: dict[str, Any]) -> list[str]:
    problems = [f"unknown key '{key}' ({nearest(key, _KEYS)})" for key in table if key not in _KEYS]
    problems += [f"'{key}' must be a string" for key in ("name", "weights_sha256") if key not in table]
    for key, value in table.items():
        if key in _TABLES and not isinstance(value, dict):
            problems.append(f"'{key}' must be a table")
        elif key in ("name", *_DIGESTS) and not isinstance(value, str):
            problems.append(f"'{key}' must be a string")
    if "config" not in table:
        problems.append("'config' must be a table")
    files = table.get("files", {})
    if isinstance(files, dict) and not all(name in _BESIDE and isinstance(files[name], str) for name in files):
        problems.append(f"'files' holds digests of {' and '.join(_BESIDE)}")
    return problems


def _identity(table: dict[str, Any]) -> str:
    """Of all that decides what the model computes."""
    return _json_digest({"config": table["config"], "weights_sha256": table["weights_sha256"]})


def _content_digest(table: dict[str, Any]) -> str:
    """Of all that ``model.toml`` says."""
    return _json_digest({key: value for key, value in table.items() if key != "content_sha256"})


def _json_digest(value: Any) -> str:
    try:
        return strict_json.digest(value)
    except (TypeError, ValueError):  # TOML has dates and numbers that are none; we write neither
        return "no digest: it holds values that no model of ours has"


def _check_digest(path: Path, actual: str, expected: str) -> None:
    if actual != expected:
        raise CocorrrecError(
            f"{path}: damaged or replaced: sha256 is {actual[:16]}..., "
            f"model.toml says {expected[:16]}...; copy the model again"
        )


def load_model(folder: ModelFolder) -> "Ranker":
    """The model with the weights of ``folder``, in evaluation mode, on the CPU.

    Raises:
        CocorrrecError: the tensors are not those of the config (names, shapes, float32), or not finite.
    """
    from cocorrrec_export.modeling.build import build_model

    model = build_model(folder.config)
    tensors = with_todays_names(read_tensors(folder.weights_path, sha256=folder.weights_sha256), model)
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
        further = [f"and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
        raise CocorrrecError(f"{folder.weights_path}: " + "; ".join(sorted(problems)[:MOST_PROBLEMS] + further))
    model.load_state_dict(tensors)
    return model.eval()


def with_todays_names(tensors: "dict[str, Tensor]", model: "Ranker") -> "dict[str, Tensor]":
    """Tensors that an earlier version may have named, by the names that ``model`` has."""
    expected = model.state_dict().keys()

    def today(name: str) -> str:
        if name in expected:
            return name
        return next((new + name.removeprefix(old) for old, new in model.renamed.items() if name.startswith(old)), name)

    return {today(name): x for name, x in tensors.items()}


def count_parameters(folder: ModelFolder) -> int:
    """Number of weights, read from the header of the weights' file alone."""
    check_header(folder.weights_path)
    with safe_open(folder.weights_path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def read_tensors(path: Path, *, sha256: str | None = None, foreign: bool = False) -> "dict[str, Tensor]":
    """All tensors of a safetensors file.

    Args:
        path: the file; it is read once, so that what is checked is what is loaded.
        sha256: what its digest must be; None takes any.
        foreign: the file may be another program's, whose header has entries of its own.

    Raises:
        CocorrrecError: the file is missing, truncated, damaged, or not the one of that digest.
    """
    return read_named(path, "pt", sha256=sha256, foreign=foreign)


def write_tensors(tensors: "dict[str, Tensor]", path: Path, *, metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file with the digest of its content, and other entries of its header, whole or not at all.

    Raises:
        CocorrrecError: the disk is full or read-only.
    """
    from safetensors.torch import save_file

    plain = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
    with publish_file(path) as staging:
        try:
            save_file(plain, staging, metadata={DIGEST: digest_of(plain)} | (metadata or {}))
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
    """Write ``weights.safetensors`` and ``model.toml`` into the folder ``path``, which must exist.

    Held-out users and items that are part of it are there already.
    """
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
        "files": {name: sha256_file(path / name) for name in _BESIDE if (path / name).is_file()},
    }
    write_description(path, table)
    return open_model(path)


def write_description(path: Path, table: dict[str, Any]) -> None:
    """Write ``model.toml`` with its digests: of the model, and of all that the file says.

    Args:
        path: folder of the model.
        table: all other keys.
    """
    # Through TOML and back: the digests are of what a reader finds, where a tuple is a list.
    plain = tomllib.loads(tomli_w.dumps({key: table[key] for key in table if key not in ("sha256", "content_sha256")}))
    plain = {"sha256": _identity(plain)} | plain
    plain = {"content_sha256": _content_digest(plain)} | plain
    with publish_file(path / "model.toml") as staging:
        staging.write_bytes(tomli_w.dumps(plain).encode())
