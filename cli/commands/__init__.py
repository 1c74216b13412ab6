"""One file per command, or per group of them."""
