"""The docs site: pages of the repository and references that are made from the code, built strictly.

    python scripts/docs_site.py             # writes the site into build/site
    python scripts/docs_site.py --check     # looks for what is not documented, without mkdocs

Markdown pages are the source: README.md, docs/ and a few others. They are copied to build/docs with links that fit the
site; the references of commands, of Python and of the profile's format are made there. Whatever is not documented (a
command, an option, a public name, a key of a recipe or manifest) or leads nowhere ends the build with an error.
"""

import argparse
import importlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.text import Text
from typer.main import get_command

import cocorrrec_export
from cocorrrec_export.artifact.recipe import shipped_recipes

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
PROGRAMS = ("export", "profile", "serve")
NAMES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code_of_conduct.md",
    "models/README.md": "models/index.md",
    "android_demo/README.md": "android_demo.md",
    "ios_demo/README.md": "ios_demo.md",
}
"""Pages outside of docs/, and where they are on the site."""
TYPES = (
    "cocorrrec_export.artifact.manifest.Artifact",
    "cocorrrec_export.contract.EntryPoint",
    "cocorrrec_export.contract.TensorSpec",
    "cocorrrec_export.runtime.base.Runtime",
    "cocorrrec_export.parity.outcome.Verdict",
    "cocorrrec_export.training.evaluation.Evaluation",
    "cocorrrec_export.modeling.store.ModelFolder",
    "cocorrrec_export.artifact.items.ItemIds",
    "cocorrrec_export.serving.client.GcnClient",
    "cocorrrec_export.serving.phone.Phone",
)
"""What the functions of the Python face take and give, and what a server written in Python needs."""
LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<to>[^)\s]+)\)")
PICTURE = re.compile(
    r'<picture><source [^>]*srcset="(?P<dark>[^"]+)"><img alt="(?P<text>[^"]*)" src="(?P<light>[^"]+)"></picture>'
)
"""A picture for light and for dark pages, as GitHub takes it; the site's own switch takes two."""
FENCE = re.compile(r"^(```.*?^```)", re.M | re.S)


class Undocumented(Exception):
    """Everything that has no documentation, one problem a line."""


def sources() -> dict[Path, str]:
    """Every page that the repository has, and its place on the site."""
    found = {ROOT / name: place for name, place in NAMES.items()}
    for path in sorted((ROOT / "docs").rglob("*.md")):
        found[path] = path.relative_to(ROOT / "docs").as_posix()
    for path in sorted((ROOT / "models").glob("*/README.md")):
        found[path] = f"models/{path.parent.name}.md"
    return found


def with_links_of_the_site(text: str, page: Path, places: dict[Path, str]) -> str:
    """A page whose links to other pages fit the site; files that the site does not have are named instead.

    Raises:
        Undocumented: a link leads nowhere.
    """
    here = Path(places[page]).parent
    broken = []

    def relative(place: str) -> str:
        return Path(os.path.relpath(place, here)).as_posix()

    def fit(match: re.Match[str]) -> str:
        path, mark, anchor = match["to"].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        target = Path(os.path.normpath(page.parent / path))
        if not target.exists():
            broken.append(f"{page.relative_to(ROOT)}: {match['to']} leads nowhere")
            return match[0]
        if target in places:
            return f"{match['image']}[{match['text']}]({relative(places[target])}{mark}{anchor})"
        if target.is_file() and target.is_relative_to(ROOT / "docs"):
            place = relative(target.relative_to(ROOT / "docs").as_posix())
            return f"{match['image']}[{match['text']}]({place}{mark}{anchor})"
        name = target.relative_to(ROOT).as_posix()
        return match["text"] if name in match["text"] else f"{match['text']} (`{name}`)"

    pair = r"![\g<text>](\g<light>#only-light) ![\g<text>](\g<dark>#only-dark)"
    parts = FENCE.split(PICTURE.sub(pair, text))
    fitted = "".join(part if part.startswith("```") else LINK.sub(fit, part) for part in parts)
    if broken:
        raise Undocumented("\n".join(broken))
    return fitted


def commands(program: str) -> Iterator[tuple[str, Any]]:
    """Every command of a program, by the words that call it; the program itself first."""

    def walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield name, command
        for part, inner in getattr(command, "commands", {}).items():
            yield from walk(f"{name} {part}", inner)

    module = importlib.import_module(f"cocorrrec_export.cli.{program}.app")
    return walk(f"cocorr-{program}", get_command(module.app))


def _plain(text: str | None) -> str:
    """A help text as it is shown, without the marks that keep it from being read as markup."""
    return " ".join(Text.from_markup(text or "").plain.split())


def _in_table(text: str) -> str:
    return re.sub(r"(?<!\\)([<>*_|])", r"\\\1", text)


def _default(parameter: Any) -> str:
    shown = getattr(parameter, "show_default", None)
    if isinstance(shown, str):
        return shown
    value = parameter.default
    if value is None or value is False or value is Ellipsis or callable(value) or shown is False:
        return "required" if parameter.required else ""
    return str(value.as_posix() if isinstance(value, Path) else value)


def own_parameters(command: Any) -> list[Any]:
    """A command's arguments and options, but for those that every program has."""
    return [each for each in command.params if each.name not in ("help", "install_completion", "show_completion")]


def command_page(program: str) -> str:
    """The reference of a program: each command with its text, its arguments and options, and its examples."""
    lines = [f"# cocorr-{program}", "", "Made from the program's own help."]
    for name, command in commands(program):
        lines += ["", f"{'#' * (1 + len(name.split()))} `{name}`" if " " in name else "", ""]
        lines += [Text.from_markup(command.help or "").plain]
        rows = []
        for each in own_parameters(command):
            argument = each.param_type_name == "argument"
            words = [each.name.upper()] if argument else [*each.opts, *each.secondary_opts]
            value = "" if argument else each.metavar
            cell = ", ".join(f"`{word}`" for word in words) + (f" {_in_table(f'`{value}`')}" if value else "")
            rows.append(f"| {cell} | {_in_table(_plain(each.help))} | {_in_table(_default(each))} |")
        if rows:
            lines += ["", "| argument or option | what it does | default |", "|---|---|---|", *rows]
        examples = re.findall(r"^ *(cocorr-.*)$", getattr(command, "examples", None) or "", re.M)
        if examples:
            lines += ["", "```sh", *examples, "```"]
    return "\n".join(lines) + "\n"


def python_page() -> str:
    """The reference of Python: mkdocstrings fills it in from the docstrings."""
    lines = [
        "# Python",
        "",
        "Every function below is an attribute of `cocorrrec_export`; nothing heavy is imported before one is called.",
        "",
        "```python",
        "import cocorrrec_export as cocorr",
        "```",
        "",
        "## Functions",
    ]
    for name in cocorrrec_export.__all__:
        lines += ["", f"::: {_function(name).__module__}.{name}"]
    lines += ["", "## What they take and give"]
    for name in TYPES:
        lines += ["", f"::: {name}"]
    lines += ["", "## Errors", "", "::: cocorrrec_export.errors", ""]
    return "\n".join(lines)


def _function(name: str) -> Any:
    found = getattr(cocorrrec_export, name)
    return getattr(found, "__wrapped__", found)


def schema_page(title: str, schema: dict[str, Any], intro: str) -> str:
    """The keys of a JSON document, from its schema."""
    lines = [f"# {title}", "", intro, "", "| key | type | what it says |", "|---|---|---|"]
    lines += [f"| `{key}` | {_in_table(kind)} | {_in_table(text)} |" for key, kind, text in _keys(schema, schema, "")]
    return "\n".join(lines) + "\n"


def _keys(part: dict[str, Any], schema: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, entry in part.get("properties", {}).items():
        found = _resolved(entry, schema)
        items = _resolved(found.get("items", {}), schema)
        kind = found.get("type", "value")
        text = " or ".join(kind) if isinstance(kind, list) else str(kind)
        if "enum" in found:
            text = ", ".join(map(str, found["enum"]))
        yield f"{prefix}{name}", text, entry.get("description", found.get("description", ""))
        yield from _keys(found, schema, f"{prefix}{name}.")
        yield from _keys(items, schema, f"{prefix}{name}[].")


def _resolved(entry: Any, schema: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(entry, dict):
        return {}
    if "$ref" in entry:
        return _resolved(schema["$defs"][entry["$ref"].rsplit("/", 1)[1]], schema)
    for choice in ("anyOf", "oneOf"):
        for each in entry.get(choice, []):
            found = _resolved(each, schema)
            if found.get("type") != "null":
                return found
    return entry


def notebook_page(path: Path) -> str:
    """A notebook as a page: its prose, its code, and what the code printed when it was kept."""
    lines = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        lines += [text, ""] if cell["cell_type"] == "markdown" else ["```python", text, "```", ""]
        for output in cell.get("outputs", []):
            printed = "".join(output.get("text", []))
            if printed:
                lines += ["```text", printed.rstrip("\n"), "```", ""]
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """Every page of the site, by its place.

    Raises:
        Undocumented: something is not documented, or a link leads nowhere.
    """
    places = sources()
    found, problems = {}, undocumented()
    for page, place in places.items():
        try:
            found[place] = with_links_of_the_site(page.read_text(encoding="utf-8"), page, places)
        except Undocumented as error:
            problems.append(str(error))
    if problems:
        raise Undocumented("\n".join(problems))
    for program in PROGRAMS:
        found[f"reference/cocorr-{program}.md"] = command_page(program)
    found["reference/python.md"] = python_page()
    schema = json.loads((ROOT / "docs" / "profile.schema.json").read_text(encoding="utf-8"))
    intro = (
        "What `cocorr-profile` writes as `profile.json`; how each figure is taken: [profiling](../profiling.md). "
        "Units are in the names: `_ns` and `_us` are times, `_kb` is 1,024 bytes, lists have every sample."
    )
    found["reference/profile.md"] = schema_page("The profile", schema, intro)
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        found[f"examples/{path.stem}.md"] = notebook_page(path)
    return found


def undocumented() -> list[str]:
    """Everything that has no documentation: commands, options, public names, keys of recipes and manifests."""
    problems = []
    for program in PROGRAMS:
        for name, command in commands(program):
            if not (command.help or "").strip():
                problems.append(f"{name}: the command has no help")
            problems += [
                f"{name}: {each.name} has no help" for each in own_parameters(command) if not (each.help or "").strip()
            ]
    for name in cocorrrec_export.__all__:
        text = inspect.getdoc(_function(name)) or ""
        parts = ("Args:", "Returns:", "Raises:")
        problems += [f"{name}: its docstring has no {part}" for part in parts if part not in text]
    legend = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    recipes = shipped_recipes()
    keys = {key for recipe in recipes for key in _flat(recipe.as_table())} - {"name"}
    problems += [f"docs/recipe.md: the key {key} is not explained" for key in sorted(keys) if f"`{key}`" not in legend]
    values = {value for recipe in recipes for value in (recipe.precision, recipe.embedding, recipe.linear)}
    problems += [f"docs/recipe.md: {value} is not explained" for value in sorted(values) if f"`{value}`" not in legend]
    manifest = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    schema = json.loads((ROOT / "docs" / "manifest.schema.json").read_text(encoding="utf-8"))
    missing = (key for key in schema["properties"] if f"`{key}`" not in manifest)
    return problems + [f"docs/manifest.md: the key {key} is not explained" for key in missing]


def _flat(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def nav_with_all(nav: list[Any], places: set[str]) -> list[Any]:
    """The navigation, with pages that it does not name at its end: none is left unfindable."""

    def named(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from named(each)

    rest = sorted(places - set(named(nav)))
    return [*nav, {"More": rest}] if rest else nav


def stage() -> Path:
    """Write pages, pictures and the configuration into build/; returns the configuration."""
    import yaml

    folder = BUILD / "docs"
    shutil.rmtree(folder, ignore_errors=True)
    assets = (path for path in (ROOT / "docs").rglob("*") if path.is_file() and path.suffix != ".md")
    for path in assets:
        to = folder / path.relative_to(ROOT / "docs")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, to)
    made = pages()
    for place, text in made.items():
        to = folder / place
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text, encoding="utf-8")
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    config |= {"docs_dir": "docs", "site_dir": "site", "nav": nav_with_all(config["nav"], set(made))}
    path = BUILD / "mkdocs.yml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def main() -> None:
    """Check, or build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only look for what is not documented")
    only_check = parser.parse_args().check
    try:
        if only_check:
            pages()
            return
        config = stage()
    except Undocumented as error:
        sys.exit(f"error: not documented:\n{error}")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config)]
    # Its authors print a notice on the future of MkDocs at every build; docs/decisions has what follows from it.
    sys.exit(subprocess.run(command, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}).returncode)


if __name__ == "__main__":
    main()
