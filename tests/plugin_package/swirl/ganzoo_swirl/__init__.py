"""A third party's package for ganzoo: what each entry point needs is imported when it is asked for."""

from importlib.resources import files

RECIPE = files(__name__) / "swirl-rings.toml"
