"""Durable objects: what clients may ask for again, a restart later."""
