"""Torch modules: tokenizer, Transformer, encoder, predictor, and the features that need no training."""
