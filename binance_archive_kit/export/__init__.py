"""Hand the rows of a store to other tools: wide frames, and folders of Parquet."""
