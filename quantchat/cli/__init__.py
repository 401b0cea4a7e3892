"""Commands; each imports what it needs when it runs."""
