"""How a service runs: declarations, bindings, lanes, units, hosts. Knows ports, and no adapter."""
