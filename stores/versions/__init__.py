"""Versions of a store: reading one, naming it, going back, another threshold, clearing up."""
