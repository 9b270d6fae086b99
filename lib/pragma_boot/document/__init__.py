"""The <vc> document: its tree, what of a vc-in.xml is permitted, and its projection vc-out.xml.

Transforms are pure: a tree in, a tree out.
Not here: anything that reads an image, asks an engine, or changes the ledger.
"""
