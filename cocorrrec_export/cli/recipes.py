"""``cocorr-export recipes``."""

from typing import Annotated

import typer

from cocorrrec_export.cli import console, options

EPILOG = """
Examples:

  cocorr-export recipes

  cocorr-export recipes show executorch-xnnpack-int8 > my-recipe.toml
"""

app = typer.Typer(invoke_without_command=True, epilog=EPILOG, help="List the shipped recipes, or print one.")


@app.callback()
def list_recipes(context: typer.Context, json: options.Json = False) -> None:
    """List the shipped recipes: what each half can be exported to, and in which precision."""
    if context.invoked_subcommand is not None:
        return
    from cocorrrec_export.export.recipes import shipped_recipes

    rows = [recipe.as_table() for recipe in shipped_recipes()]
    if json:
        console.print_json(rows)
    else:
        columns = ("name", "kind", "target", "backend", "precision", "item_side")
        console.print_table("recipes", columns, ([str(row.get(name, "")) for name in columns] for row in rows))


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a recipe.")]) -> None:
    """Print a shipped recipe: the start of your own, for --recipe."""
    from cocorrrec_export.export.recipes import shipped_recipe
    from cocorrrec_export.resources import RECIPES_DIR

    typer.echo((RECIPES_DIR / f"{shipped_recipe(name).name}.toml").read_text(encoding="utf-8"), nl=False)
