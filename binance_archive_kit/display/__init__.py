"""Show results and progress: words, HTML, bars."""
