"""Unfinished and finished work on disk.

existing_target  a target that already exists: the result of the same plan, or something in the way
output           writes one file in order and hashes it as it goes
partial_folder   `TARGET.partial/`: unfinished work of one plan, shared and resumed
records          the record of a finished shard, validated when read back
"""
