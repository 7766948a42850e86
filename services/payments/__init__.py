"""Holds the customers' money, and takes it for orders."""
