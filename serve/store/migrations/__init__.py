"""The tables' versions, one file each."""
