"""Linear layers with int8 weights per output channel and 16-bit activations."""
