"""The outside systems of identity: JupyterHub, the issuer, the table of people."""
