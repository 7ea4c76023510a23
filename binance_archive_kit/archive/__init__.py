"""Describe what Binance publishes: names, keys, feeds, columns, listings, digests."""
