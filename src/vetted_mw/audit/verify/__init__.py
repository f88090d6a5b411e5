"""What holds of receipts, ledgers and packs, and what does not."""
