"""Gradient training of the full model."""
