"""Keep a store: bring it up to date, and free its space."""
