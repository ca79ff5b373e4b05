"""Tool servers: the site's MCP servers and HTTP functions, kept connected and called in bounds."""
