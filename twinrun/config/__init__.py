"""Where a job runs: ``conf/*.yaml``, the environment and ``--set``, read into one frozen object."""
