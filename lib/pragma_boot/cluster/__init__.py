"""The life of a cluster: allocation, the ledger, boot, states, and the driver that pragma_boot calls.

Not here: command lines (cli), and what only one engine knows (engine).
"""
