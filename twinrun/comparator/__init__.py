"""The comparator of two tables: schema plan, digest per window, drill-down into the windows that differ."""
