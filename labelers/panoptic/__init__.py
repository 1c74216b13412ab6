"""Panoptic labels as pure functions: from maps of centers and offsets to instances, and how good they are."""
