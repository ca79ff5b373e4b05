"""What comes out of an engine, turned into what a client of the hosted API expects."""
