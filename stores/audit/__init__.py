"""Whether a store is as it was written, what changed, and where labels came from."""
