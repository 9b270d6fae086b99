"""What every other package stands on: processes, files, locks, settings, messages, the terminal.

Modules here know nothing of clusters, documents or engines. Some know file systems: debugfs and
guestfish read and write them for the package image.
Not here: anything that reads a <vc> document, and anything that asks an engine.
"""
