"""Plain linears with int4 group weights and 16-bit activations, below SM 80."""
