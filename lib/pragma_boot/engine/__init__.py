"""Engines: where domains run. One Protocol, one module an engine, one registry.

Here also live what engines need: domain XML, storage of disks, consoles, acceleration.
Not here: reservations and the order in which nodes start. No other package asks which engine it is.
"""
