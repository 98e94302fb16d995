"""The metrics of ganzoo, one file for each kind; `ganzoo.registry.metrics` holds them by name."""
