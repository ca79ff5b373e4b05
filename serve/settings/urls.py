"""Addresses in settings."""

from urllib.parse import SplitResult, urlsplit


def split(url: str) -> SplitResult | None:
    """Its parts, None where it has no host, or a port that is none."""
    try:
        parts = urlsplit(url)
        whole = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:
        return None
    return parts if whole else None
