"""What comes of a run: honest scores with intervals, comparisons, tables, pages."""
