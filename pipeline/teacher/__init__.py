"""One teacher on one device: its weights, its memory, its labels, its scores, what it sees."""
