"""The manifest: a Delta table with one row per image, its log and its checkpoints."""
