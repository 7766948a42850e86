"""The SQLite store: one file, one writer, by the standard library's `sqlite3`."""
