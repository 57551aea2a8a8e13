"""Experiments: `default.py` holds every key, every other file overrides a few of them."""
