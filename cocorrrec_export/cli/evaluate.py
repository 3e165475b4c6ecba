"""``cocorr-export evaluate``."""

from cocorrrec_export.cli import console, options
from cocorrrec_export.resources import DEFAULT_MODEL

EPILOG = """
Examples:

  cocorr-export evaluate

  cocorr-export evaluate --model models/mine

  cocorr-export evaluate --model cocorrrec-beauty --data beauty.csv.gz --json
"""


def evaluate(model: options.Model = DEFAULT_MODEL, data: options.Data = None, json: options.Json = False) -> None:
    """Measure a model on its held-out users: with the cloud's correction, and without, as a phone offline ranks."""
    from cocorrrec_export.data.held_out import held_out_set
    from cocorrrec_export.modeling.store import find_model, load_model, open_model
    from cocorrrec_export.training.scoring import evaluate_model

    folder = open_model(find_model(model))
    held_out = held_out_set(folder, data)
    metrics = evaluate_model(load_model(folder), held_out)
    if json:
        console.print_json({"model": folder.name, "sha256": folder.sha256, "users": len(held_out), "metrics": metrics})
    else:
        console.print_metrics(f"{folder.name}: {len(held_out)} held-out users", metrics)
