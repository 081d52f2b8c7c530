"""Dask clusters: scheduler beside the hub, workers on sites."""
