"""Evidence packs: a period of a ledger, with all that is needed to check it."""
