"""``cocorr-export``: train, evaluate, export and check."""

from cocorrrec_export.cli import console
from cocorrrec_export.cli.export import (
    bundle,
    data,
    doctor,
    evaluate,
    export_weights,
    gcn,
    import_,
    inspect,
    models,
    parity,
    recipes,
    reproduce,
    scn,
    train,
)
from cocorrrec_export.cli.root import make_app

app = make_app(
    "cocorr-export",
    "Take the CoCorrRec recommender from training to phones and cloud, and prove that it still ranks the same.",
)

app.command(epilog=train.EPILOG)(train.train)
app.command("import", epilog=import_.EPILOG)(import_.import_)
app.command(epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(epilog=reproduce.EPILOG)(reproduce.reproduce)
app.command(epilog=scn.EPILOG)(scn.scn)
app.command(epilog=gcn.EPILOG)(gcn.gcn)
app.command("export-weights", epilog=export_weights.EPILOG)(export_weights.export_weights)
app.command(epilog=parity.EPILOG)(parity.parity)
app.command(epilog=inspect.EPILOG)(inspect.inspect)
app.command(epilog=doctor.EPILOG)(doctor.doctor)
app.command(epilog=models.EPILOG)(models.models)
app.add_typer(data.app, name="data")
app.add_typer(recipes.app, name="recipes")
app.add_typer(bundle.app, name="bundle")


def main() -> None:
    """Entry point of the console script."""
    console.run(app)
