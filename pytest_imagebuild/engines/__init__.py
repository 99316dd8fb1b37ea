"""Engines: what stores layers and runs containers."""
