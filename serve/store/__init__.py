"""The database: its connections, its tables and their versions."""
