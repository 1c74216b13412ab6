"""What can be asked of a store and of a checkpoint, and cards for those who get the labels."""
