"""What one mode refuses, and what can differ between the modes, found before anything runs."""
