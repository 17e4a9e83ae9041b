"""The ledger, asked: since when do the results of a job differ, how often, for which cause, and how it goes on."""
