"""The bytes of a store: arrays, chunks, evidence, records, columns. `FORMAT.md` says it in words."""
