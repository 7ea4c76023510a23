"""Columnar tables: the rows of many files in a few Parquet files, beside the zips."""
