"""Carry out a plan; most modules need torch.

base_check      checks that this is the base that the diff was made from
buffer_sums     buffers that a published sum includes and the files lack, or the other way round
checksums       the CRC-32 that torch.save stores, compared while bytes are read
combine         the arithmetic of one block: added in float32, cast once
device          what the engine needs from a device: memory, streams, events
device_pool     which devices take part, which is next, and what happens when one is full
finish          the end of a run: last checks, small files, the manifest
makers          makes blocks, in place on the CPU or on a device
mean_rows       the mean of a base's embedding rows, bit for bit as in torch
parameter_sum   the sum of all parameters, compared with a published one
pipeline        makes one output file: read, combine, hash, write, each on its own thread
progress        progress as JSON lines, as a bar, or not at all
resources       where the arithmetic runs, and how many shards are made at once
restored_files  checks a file that was restored by xor
result          what a run did, as a value
row_sums        the sum of a matrix's rows in torch's order
run             `execute`: makes shards in parallel, adds the other files and renames the folder
"""
