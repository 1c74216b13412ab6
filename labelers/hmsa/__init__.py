"""Hierarchical multi-scale attention (arXiv 2005.10821): networks, the chain of scales, losses."""
