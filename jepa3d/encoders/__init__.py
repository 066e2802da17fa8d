"""Encoders: patches in, tokens out."""
