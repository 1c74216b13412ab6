"""Trunks trained on the classes of whole images, from which panoptic trainings start."""
