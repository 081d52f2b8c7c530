"""GPU sharing: people ask in GiB, wait in a fair queue, and hold a slice on lease."""
