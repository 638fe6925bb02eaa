"""Building blocks of all HTML pages: the page frame, charts and spectrograms."""
