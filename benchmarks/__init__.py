"""Measurements of Inhouse with bounds; see benchmarks/README.md."""
