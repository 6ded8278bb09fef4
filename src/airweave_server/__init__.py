"""Keeps the knowledge of AI agents fresh: syncs sources into collections that agents search."""

__version__ = "0.1.0"
