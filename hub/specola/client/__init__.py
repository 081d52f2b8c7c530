"""Clients of the facility's other processes."""
