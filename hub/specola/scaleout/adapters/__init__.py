"""dask-gateway: our back end, authenticator and settings inside it, and the client that asks it."""

from pathlib import Path


def gateway_config_file() -> Path:
    """The file for `dask-gateway-server -f`."""
    return Path(__file__).with_name("gateway_config.py")
