"""Files -> pixels and labels: decoding, selection, classes, data sets for training, scores against fine labels."""
