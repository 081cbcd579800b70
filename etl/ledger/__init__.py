"""What happened to every delivery, month and release: our memory, in PostgreSQL schemas `ledger` and `audit`."""
