"""The ports: what the runtime asks of a broker, a store and a clock. Their comments are the contract."""
