"""The image database: its entries in a folder or on a web server; fetched, published, and made.

The format of vcdb.txt is in vcdb, the choice between a folder and a web server in entries.
Not here: what an image is (image), and clusters (cluster).
"""
