"""Verify a result that another engine wrote: no checkpoint, no micro-batch log, only what its owner declares."""
