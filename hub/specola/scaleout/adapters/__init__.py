"""dask-gateway: our back end, authenticator and settings inside it, and the client that asks it."""
