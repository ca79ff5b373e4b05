"""The audit log: chained records in files, signed checkpoints of them, and who checks both."""
