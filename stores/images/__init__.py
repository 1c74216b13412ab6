"""Trees of images and label files: their layouts, and what lies where."""
