"""Knows what is in the warehouse, and sets it aside for orders."""
