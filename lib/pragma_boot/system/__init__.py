"""What every other package stands on: processes and their confinement, files, locks, settings, messages.

Here lives what knows nothing of clusters, documents and images.
Not here: anything that reads a <vc> document, and anything that asks an engine.
"""
