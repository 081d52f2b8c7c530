"""Notebook servers: start, stop, and the one rule by which idle ones end."""
