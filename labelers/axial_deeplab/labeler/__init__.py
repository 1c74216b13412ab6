"""Labels images with panoptic networks: whole images, at several sizes, with instances."""
