"""Routers that fine-tune a transformer: an encoder (BERT) or a causal language model."""
