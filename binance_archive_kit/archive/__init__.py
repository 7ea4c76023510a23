"""Describe what Binance publishes (keys, feeds, columns, listing, digests); how to reach it."""
