"""Versions for other tools."""
