"""How twinrun runs in motion: ingest, stream runner, progress."""
