"""What a run tells of itself: to a person while it works, to the store, to `runs` and `status`."""
