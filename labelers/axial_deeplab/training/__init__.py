"""How panoptic networks are trained: the objective made of targets and losses, validation by panoptic quality."""
