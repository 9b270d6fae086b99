"""make bench: our tools beside those that a user might use instead; bench.md has one run."""
