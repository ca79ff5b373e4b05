"""Weights are data: found, converted once, digested, and checked before an engine opens them."""
