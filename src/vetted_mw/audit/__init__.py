"""What an auditor does with receipts: verify them, pack a period, add them up. Reads what the gateway wrote."""
