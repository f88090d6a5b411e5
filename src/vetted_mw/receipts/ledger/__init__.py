"""The shipped ledger: one SQLite file, written by one thread per process, read by anyone with SQLite."""
