"""Changing what is served: plan, evaluation before the traffic moves, roll back."""
