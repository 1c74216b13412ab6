"""Hierarchical multi-scale attention as a labeler: what it takes, how it predicts, how much memory a pass needs."""
