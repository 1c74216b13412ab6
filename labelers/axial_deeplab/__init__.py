"""Axial-DeepLab: a panoptic labeler, its networks and what trains them."""
