"""What every tool shares: options, exit statuses, tables.

Not here: anything that a second tool could want without a command line.
"""
