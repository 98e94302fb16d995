"""Evaluation: numbers about generated images, each with its protocol."""
