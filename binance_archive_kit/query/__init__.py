"""Answer SQL and frames from the rows of a store."""
