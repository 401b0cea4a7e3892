"""Layouts of quantized safetensors folders: what each writer's tensors are, and what they mean."""
