"""Send records to a topic: a data set, a file of JSON lines or CSV, or records made by hand."""
