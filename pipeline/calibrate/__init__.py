"""How sure a teacher must be of each class: precision against the threshold, measured on fine labels."""
