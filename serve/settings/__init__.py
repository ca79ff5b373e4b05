"""The site file: typed, frozen, validated."""
