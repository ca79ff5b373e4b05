"""Batches: files of requests that are run beside everything else, each line once."""
