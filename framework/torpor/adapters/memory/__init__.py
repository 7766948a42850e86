"""A broker, a store and a clock in memory: for tests, for simulation, and for a first look with nothing installed."""
