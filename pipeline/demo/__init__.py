"""The whole flow on drawn streets."""
