"""What another lateness would have lost: worked out from the micro-batch log, without running the stream again."""
