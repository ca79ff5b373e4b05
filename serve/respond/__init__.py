"""Responses: one turn of a conversation from its checked request to its terminal event."""
