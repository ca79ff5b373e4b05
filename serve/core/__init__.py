"""Types every stage shares: the error tree, requests, usage and the ports between stages."""
