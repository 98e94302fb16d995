"""Taking models out of PyTorch: installed as `ganzoo.export`."""
