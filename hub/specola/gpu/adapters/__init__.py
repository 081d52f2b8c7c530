"""Outside systems of GPU sharing, one file each."""
