"""Inspection: instruments that look into a model and at what it draws."""
