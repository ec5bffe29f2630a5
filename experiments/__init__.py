"""One script per claim or figure, each with a `main(config)`; see also figures/."""
