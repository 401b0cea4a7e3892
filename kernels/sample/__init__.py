"""The next token from logits on the device, with what the next step needs written along."""
