"""Facts about the machine and the plan made from them."""
