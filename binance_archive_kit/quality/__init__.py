"""Judge whether data can be trusted: coverage, gaps, findings."""
