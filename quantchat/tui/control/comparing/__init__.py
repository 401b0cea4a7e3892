"""Side by side: two models in two slots, the rounds they answer, and what differs."""
