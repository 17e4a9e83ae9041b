"""The job contract: one pure function, what it reads, and what its result promises."""
