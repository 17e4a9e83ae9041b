"""Great Expectations over results, and what every verify expects of its rows; no Data Docs."""
