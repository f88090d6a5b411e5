"""What a period cost, summed up: as a table, as CSV, as a page."""
