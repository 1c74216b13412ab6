"""Streets drawn with exact labels."""
