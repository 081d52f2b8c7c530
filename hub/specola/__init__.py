"""Specola: JupyterHub made into a complete scientific analysis facility."""

__version__ = "0.1.0"
