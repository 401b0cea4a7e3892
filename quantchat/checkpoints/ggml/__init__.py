"""The block types of ggml: sizes, and dequantisation in plain torch."""
