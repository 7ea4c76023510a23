"""A strategy of freqtrade that holds a position between two known candles."""

from typing import ClassVar

from freqtrade.strategy import IStrategy


class Holding(IStrategy):
    INTERFACE_VERSION = 3
    timeframe = "1h"
    minimal_roi: ClassVar = {"0": 100}
    stoploss = -0.99
    enter_at = "2025-07-13 05:00:00+00:00"
    exit_at = "2025-07-14 11:00:00+00:00"

    def populate_indicators(self, dataframe, metadata):
        return dataframe

    def populate_entry_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["date"] == self.enter_at, "enter_long"] = 1
        return dataframe

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["date"] == self.exit_at, "exit_long"] = 1
        return dataframe
