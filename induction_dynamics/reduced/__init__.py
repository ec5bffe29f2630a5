"""Losses written in the pseudo-parameters."""
