"""Bring proven batch values into the stream's table: planned, applied in one transaction, reversible."""
