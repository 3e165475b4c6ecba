"""``cocorr-export models``."""

from cocorrrec_export.cli import console, options
from cocorrrec_export.errors import CocorrrecError
from cocorrrec_export.resources import MODELS_DIR, NO_MODELS

EPILOG = """
Examples:

  cocorr-export models

  cocorr-export models --json
"""


def models(json: options.Json = False) -> None:
    """List the shipped models."""
    from cocorrrec_export.modeling.store import count_parameters, open_model, shipped_models

    if not MODELS_DIR.is_dir():
        raise CocorrrecError(NO_MODELS)
    folders = [open_model(path) for path in shipped_models().values()]
    rows = [
        {
            "name": folder.name,
            "architecture": folder.config.architecture,
            "items": folder.config.vocab_size - 1,
            "parameters": count_parameters(folder),
            "bytes": folder.weights_path.stat().st_size,
            "sha256": folder.sha256,
            "verified": folder.verified,
            "held_out_users": folder.evaluation_path.is_file(),
            "metrics": {way: values for way, values in folder.metrics.items() if way != "validation"},
        }
        for folder in folders
    ]
    if json:
        console.print_json(rows)
        return
    columns = ("name", "architecture", "parameters", "MB", "NDCG@10", "users")
    console.print_table(
        "models",
        columns,
        (
            [
                folder.name,
                folder.config.architecture,
                f"{count_parameters(folder):,}",
                f"{folder.weights_path.stat().st_size / 1e6:.2f}",
                f"{folder.metrics.get('corrected', folder.metrics.get('alone', {})).get('ndcg@10', float('nan')):.4f}",
                "shipped" if folder.evaluation_path.is_file() else "--data",
            ]
            for folder in folders
        ),
    )
