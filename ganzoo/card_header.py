"""The header of a model's card: a few lines of YAML by which the Hugging Face Hub files it.

Written by hand rather than with a YAML package, which ganzoo does without: all that goes into it is a plain name, a
number, or a text in quotes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganzoo.card import Metric
    from ganzoo.model_config import ModelConfig

# fmt: off
HUB_LICENCES = frozenset((
    "afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause",
    "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "creativeml-openrail-m", "ecl-2.0", "epl-1.0",
    "epl-2.0", "etalab-2.0", "eupl-1.1", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0",
    "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by", "ofl-1.1", "openrail", "osl-3.0", "pddl",
    "postgresql", "unlicense", "unknown", "wtfpl", "zlib",
))
# fmt: on
"""The licences that the Hub knows by name (huggingface.co/docs/hub/repositories-licenses), those made for language
models left out; any other goes as `other` with its name."""

_HUB_DATASETS = {"cifar10": "uoft-cs/cifar10", "mnist": "ylecun/mnist"}
"""Sources that the Hub has, too, and under what name there."""

_LONGEST = 100
_YAML_WORDS = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")


def card_header(config: ModelConfig, metrics: Iterable[Metric] = ()) -> str:
    """Return the header between `---` lines: YAML, as the Hub reads it.

    Args:
        config: what the model is.
        metrics: measured numbers; `model_index` says which of them the Hub is told.
    """
    family = config.recipe.generator.name
    tags = ["gan", *([family] if _is_plain(family) and family != "gan" else []), "image-generation"]
    if config.recipe.data.num_classes:
        tags.append("class-conditional")
    licence = [f"{key}: {_yaml(value)}" for key, value in hub_licence(config.licence).items()]
    lines = ["---", "library_name: ganzoo", *licence]
    lines += ["pipeline_tag: unconditional-image-generation", "tags:", *(f"- {_yaml(tag)}" for tag in tags)]
    dataset = _HUB_DATASETS.get(config.recipe.data.source)
    if dataset and config.step:  # a recipe alone has seen nothing
        lines += ["datasets:", f"- {dataset}"]
    return "\n".join([*lines, *model_index(config, metrics), "---", ""])


def model_index(config: ModelConfig, metrics: Iterable[Metric]) -> list[str]:
    """Return the lines of a header that hold measured numbers (huggingface.co/docs/hub/model-cards, "model-index").

    The Hub files a number under a data set. So it is told those whose protocol names the data that the model was
    trained on; all others stand in the card's table alone.

    Args:
        config: what the model is.
        metrics: measured numbers.
    """
    described = printable(config.data.get("description") or "")

    def is_told(one: Metric) -> bool:
        named = bool(described) and described in printable(one["protocol"])
        return named and bool(printable(one["name"])) and math.isfinite(one["value"])

    told = [one for one in metrics if is_told(one)]
    if not told:
        return []
    lines = [
        "model-index:",
        f"- name: {_quoted(config.recipe.name)}",
        "  results:",
        "  - task:",
        "      type: unconditional-image-generation",
        "    dataset:",
        f"      name: {_quoted(described)}",
        f"      type: {_HUB_DATASETS.get(config.recipe.data.source, 'other')}",
        "    metrics:",
    ]
    for one in told:
        name = printable(one["name"])
        lines += [
            f"    - type: {_quoted(re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-') or 'other')}",
            f"      name: {_quoted(name)}",
            f"      value: {_number(one['value'])}",
            "      args:",
            f"        protocol: {_quoted(printable(one['protocol']))}",
        ]
    return lines


def printable(value: Any) -> str:
    """Return a text on one line, what cannot be printed replaced."""
    text = " ".join(str(value).split())
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def has_header(card: str) -> bool:
    """Return whether a card begins with a header."""
    return re.match(r"---[ \t]*\r?\n", card) is not None


def hub_licence(licence: str | None) -> dict[str, str]:
    """Return what a header says of a licence: "license", and "license_name" where the Hub does not know it.

    Args:
        licence: an SPDX identifier, or any text; None where nobody stated one, of which nothing is said.
    """
    if licence is None or not licence.strip():
        return {}
    known = licence.strip().lower()
    known = re.sub(r"(gpl-\d\.\d)-(only|or-later)$", r"\1", known)  # SPDX's names of the GNU licences
    if known in HUB_LICENCES:
        return {"license": known}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", known)[:_LONGEST].strip("-.") or "see-card"}


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name) is not None


def _yaml(plain: str) -> str:
    """Return a plain name as a YAML scalar: in quotes where YAML would read a number or a truth value."""
    return plain if re.fullmatch(r"[a-z][a-z0-9_-]*", plain) and plain not in _YAML_WORDS else json.dumps(plain)


def _quoted(text: str) -> str:
    """Return a printable text as a YAML scalar in quotes, which JSON's are, too."""
    return json.dumps(text, ensure_ascii=False)


def _number(value: float) -> str:
    """Return a number as YAML reads it: 1e-05 would be a text there."""
    digits, power, exponent = repr(float(value)).partition("e")
    return f"{digits if '.' in digits else digits + '.0'}{power}{exponent}"
