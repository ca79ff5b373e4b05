"""The operator's own door: `/admin/v1/*` on a private Unix socket, never on the public port."""
