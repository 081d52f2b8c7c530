"""What a Dask scheduler or worker of a facility imports, and nothing more."""

__version__ = "0.1.0"
