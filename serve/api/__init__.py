"""REQUEST: one module per endpoint family; `errors` is the only place errors become HTTP."""
