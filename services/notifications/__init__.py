"""Writes to customers about their orders."""
