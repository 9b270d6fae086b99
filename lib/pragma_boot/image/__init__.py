"""Disk images: their formats, partitions and staging, what a guest must have, and how settings reach it.

A new image format or a new way to find the root partition belongs here.
Not here: where nodes' disks are kept, which their engine decides.
"""
