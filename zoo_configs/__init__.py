"""The zoo's recipes: one flat, complete, commented TOML file each; installed as `ganzoo.zoo_configs`."""
