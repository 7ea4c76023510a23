"""Serve a synthetic archive to practise with, offline."""
