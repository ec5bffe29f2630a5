"""Speed, as ratios within one run: one script per question, each with its committed table."""
