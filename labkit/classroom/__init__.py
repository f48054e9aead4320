"""HOW a class runs: notebooks released from their sources, graded, followed."""
