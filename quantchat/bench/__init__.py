"""Speed against the card's ceilings and against peers."""
