"""quantchat: chat in the terminal with quantized language models run inside this process."""

__version__ = "0.1.0"
