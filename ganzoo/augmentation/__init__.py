"""Augmentation: what the discriminator is shown in place of an image, real or generated.

`contract` says what an augmentation is, `probability` how often it acts; the others are ganzoo's own.
"""
