"""The store of a service without a database: what a handler returns is published directly."""
