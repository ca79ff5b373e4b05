"""The load generator: connections, SSE reading, loops and percentiles."""
