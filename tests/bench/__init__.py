"""make bench: ours beside what a user would pick instead. bench.md holds one run."""
