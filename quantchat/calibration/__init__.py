"""Schemes that look at text before they round: sampled text, a walk over layers, the searches."""
