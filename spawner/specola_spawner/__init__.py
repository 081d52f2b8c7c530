"""The spawners: how JupyterHub starts a person's server on this machine."""
