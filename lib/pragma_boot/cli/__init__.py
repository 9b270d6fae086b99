"""What every tool shares: options, exit statuses, and what is printed for a failure.

Not here: anything that is of use without a command line.
"""
