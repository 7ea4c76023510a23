"""The command line, ``binance-archive``: its commands and their exit codes."""
