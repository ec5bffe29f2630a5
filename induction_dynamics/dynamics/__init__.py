"""Trajectories and what is read off them."""
