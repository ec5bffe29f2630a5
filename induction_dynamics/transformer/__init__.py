"""The disentangled transformer."""
