"""Containers (GGUF, safetensors): named byte ranges, every length checked."""
