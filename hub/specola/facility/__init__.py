"""facility.yaml: one typed document that everything else is derived from."""
