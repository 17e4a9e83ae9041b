"""Made-up logs for the jobs that show a use case each, and which question each of them answers."""
