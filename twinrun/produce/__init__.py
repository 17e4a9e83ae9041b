"""Send records to a topic: a data set, JSON lines, or records made by hand."""
