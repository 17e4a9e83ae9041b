"""Delta tables: by path or by catalog name, with the records that coordinate runs."""
