"""Objectives (pairs of pure functions on logits) and penalties on the discriminator's gradient."""
