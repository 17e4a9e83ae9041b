"""What each mode of a job costs, how fresh it is, and which one to run."""
