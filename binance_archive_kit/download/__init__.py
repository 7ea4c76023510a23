"""Carry out a plan: copy with s5cmd, prove, retry, account."""
