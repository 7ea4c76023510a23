"""Run the command line as ``python -m binance_archive_kit``."""

import sys

from binance_archive_kit.cli.main import main

sys.exit(main())
