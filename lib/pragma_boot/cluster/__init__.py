"""The life of a cluster: allocation, the ledger, boot, states, and the calls of a driver.

Not here: command lines (cli), and what only one engine knows (engine).
"""
