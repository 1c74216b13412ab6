"""A labeling run, from a listing of images to a version of the store."""
