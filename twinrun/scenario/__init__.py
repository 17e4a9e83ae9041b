"""Seeded scenarios: records with planted faults, and what a verify must say about them, known before anything runs."""
