"""Named by their order."""
