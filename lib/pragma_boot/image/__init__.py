"""Disk images: formats, partitions, staging, guest profiles, and files written into nodes' disks.

An image format is one entry in formats, the root partition is decided in partition.
Not here: where disks are stored and domains run (engine), and which nodes there are (cluster).
"""
