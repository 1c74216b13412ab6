"""Labels that were made elsewhere: which files are whose, and what is in them."""
