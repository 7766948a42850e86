"""NATS JetStream: the broker, and a server of our own for development and tests."""
