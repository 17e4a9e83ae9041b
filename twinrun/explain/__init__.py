"""Causes of differences, each proven by computing the stream's rows from the batch's events."""
