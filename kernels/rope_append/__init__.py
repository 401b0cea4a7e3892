"""Head norm, rotary embedding and the write of new keys and values into the paged cache."""
