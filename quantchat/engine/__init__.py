"""Requests in, events out: cache, scheduler, sampler, tokenizer, session."""
