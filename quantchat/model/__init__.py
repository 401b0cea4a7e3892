"""One decoder for all families, driven by a spec."""
