"""Apache Kafka: the broker, on clients that FastStream configures."""
