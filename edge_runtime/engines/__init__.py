"""What runs a net: one session interface, one module an engine."""
