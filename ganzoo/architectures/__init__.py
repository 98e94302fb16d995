"""Generators and discriminators: one parametric class a family."""
