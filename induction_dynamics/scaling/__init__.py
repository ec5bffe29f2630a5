"""Sweeps over points, and laws fitted to them."""
