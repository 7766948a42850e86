"""Typed contracts of payloads, and how they become bytes and back."""
