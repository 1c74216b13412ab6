"""Runs: who works, what they write, and what is recorded of them."""
