"""How others train the same networks: what `benchmarks/training.py` holds ganzoo against.

tutorial    the loop of PyTorch's DCGAN tutorial
torchgan    torchgan's own trainer and losses (the package has to be installed)
mimicry     the loop of torch-mimicry's trainer

The tutorial's and torch-mimicry's loops are written anew here from what they do, update by update and value read by
value read. Every peer trains the networks under test, written in plain torch (`networks.py`), in float32 as it does by
default, and is fed by torch's DataLoader with two workers from images in memory (`loading.py`): decoding and resizing
files, which their users pay for besides, is left out.
"""
