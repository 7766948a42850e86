"""Hands paid orders to a carrier."""
