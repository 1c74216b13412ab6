"""Where workers run and which one gets the next image: threads or Ray, lost workers, storage that stays away."""
