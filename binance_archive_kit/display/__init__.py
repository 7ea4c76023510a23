"""Show results and progress as text, HTML and bars."""
