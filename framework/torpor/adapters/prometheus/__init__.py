"""Prometheus: the services' numbers in its text format."""
