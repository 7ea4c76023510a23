"""The command line, ``binance-archive``."""
