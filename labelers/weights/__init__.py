"""Weights on disk: our files, published files, and what is refused."""
