"""Measurements: what a user would take instead and ours, like for like, interleaved in one run."""
