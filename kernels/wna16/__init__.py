"""Linear layers with int4 group weights and 16-bit activations."""
