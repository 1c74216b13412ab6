"""The label store: versions, verification and lineage of labels on any storage; and readers of data sets."""

import os

# The allocator inside delta-rs keeps the pages of past commits, which makes a long run's driver grow by some 0.3 MB at
# every commit. It reads this when the library is loaded, so it stands here, before any import of it.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0")
