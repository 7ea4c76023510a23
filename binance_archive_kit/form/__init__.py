"""Build a configuration with a form in a notebook."""
