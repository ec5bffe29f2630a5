"""One module per picture; functions from data to a Figure."""
