"""Collect a request: on this machine, or spread over many workers."""
