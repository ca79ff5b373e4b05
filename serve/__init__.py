"""Inhouse: open-weight models behind an OpenAI-compatible API, on a site's own machines."""

__version__ = "0.1.0"
