"""The <vc> document: its tree, what of a vc-in.xml is permitted, and its projection vc-out.xml.

Transforms here are pure: tree in, tree out.
Not here: what reads an image, asks an engine, or enters the ledger.
"""
