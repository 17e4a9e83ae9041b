"""Great Expectations over results and ledger; its Data Docs are not used."""
