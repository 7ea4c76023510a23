"""Charts of prices: candles with their gaps, and lines of many symbols."""
