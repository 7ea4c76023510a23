"""Turn a configuration into a plan of what to download, keep and prove."""
