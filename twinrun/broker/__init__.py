"""Kafka: one real broker for development and tests, and what any broker can say about a topic."""
