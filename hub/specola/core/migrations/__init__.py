"""Schema of the database, one step per file; a released step is never edited."""
