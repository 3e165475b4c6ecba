"""``cocorr-export recipes``."""

from typing import Annotated

import typer

from cocorrrec_export.cli import console, options
from cocorrrec_export.cli.root import App

EPILOG = """
Examples:

  cocorr-export recipes

  cocorr-export recipes show executorch-xnnpack-int8 > my-recipe.toml
"""

app = App(invoke_without_command=True, epilog=EPILOG, help="List the shipped recipes, or print one.")


@app.callback()
def list_recipes(context: typer.Context, json: options.Json = False) -> None:
    """List the shipped recipes: what each half can be exported to, and in which precision."""
    if context.invoked_subcommand is not None:
        return
    from cocorrrec_export.artifact.recipe import expected_bytes, shipped_recipes
    from cocorrrec_export.modeling.store import find_model, open_model
    from cocorrrec_export.resources import DEFAULT_MODEL

    config = open_model(find_model(DEFAULT_MODEL)).config
    rows = [recipe.as_table() | {"expected_bytes": expected_bytes(recipe, config)} for recipe in shipped_recipes()]
    if json:
        console.print_json(rows)
    else:
        columns = ("name", "kind", "target", "backend", "precision", "item_side")
        lines = ([*(str(row.get(name, "")) for name in columns), f"{row['expected_bytes'] / 1e6:.2f}"] for row in rows)
        console.print_table("recipes", (*columns, f"MB of {DEFAULT_MODEL}"), lines)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a recipe.")]) -> None:
    """Print a shipped recipe: the start of your own, for --recipe."""
    from cocorrrec_export.artifact.recipe import shipped_recipe
    from cocorrrec_export.resources import RECIPES_DIR

    typer.echo((RECIPES_DIR / f"{shipped_recipe(name).name}.toml").read_text(encoding="utf-8"), nl=False)
