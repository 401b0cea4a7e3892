"""Token ids to the residual stream's first rows, and to the rows' places in the cache."""
