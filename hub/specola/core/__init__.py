"""What every layer may use: errors, where things lie, accounts, the database, events, the log."""
