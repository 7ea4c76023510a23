"""Turn zips into checked rows, and files into profiles."""
