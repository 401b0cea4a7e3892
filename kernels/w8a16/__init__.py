"""Plain linears with int8 weights and 16-bit activations, below SM 80; int8 made dense on any card."""
