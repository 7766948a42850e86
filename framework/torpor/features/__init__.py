"""Features: each deletable, none knows another. A feature that works in the background is a `Duty`."""
