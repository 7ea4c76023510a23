"""Keep files on disk: where they lie, what was proven, what is there."""
