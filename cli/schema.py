"""`ganzoo schema`: the JSON Schema of a recipe, for editors."""

from __future__ import annotations

import click

from . import output


@click.command("schema")
@click.option("--plugins", is_flag=True, help="With what installed packages offer beside ganzoo's own.")
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE", help="Write it to a file.")
def command(plugins: bool, out: str | None) -> None:
    """Print the JSON Schema of a recipe.

    With it, editors complete a recipe's keys and mark mistakes: those with taplo (Even Better TOML in VS Code, and
    others) where one of a recipe's first comments is `#:schema ./recipe.schema.json`.

    \b
    Examples:
      ganzoo schema --out recipe.schema.json
      ganzoo schema --plugins | jq '."$defs" | keys'
    """
    from pathlib import Path

    from ganzoo.files import write_atomically
    from ganzoo.recipes.json_schema import recipe_json_schema, schema_text

    schema = recipe_json_schema(plugins=plugins, on_broken=lambda error: output.warning_line(str(error)))
    if out is None:
        output.result_json(schema)
        return
    target = Path(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, schema_text(schema).encode())
    output.result(out)
    output.hint(f"\n#:schema ./{target.name} as one of the first comments of a recipe beside it makes editors use it.")
