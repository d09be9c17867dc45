"""One look at a source folder before its headers are read: what is in it, and what to do if it cannot be used.

`plan`, `recover`, `make_diff` and `verify` look at folders, the portal also at files to publish and at uploads. All use
the same tables: `names` (what a file's name says), `contents` (what its first bytes say), `formats` (what else a folder
may hold instead of weights), `tensors` (what the names and dtypes of tensors say). Only names, sizes, the first
bytes and safetensors headers are read, and no link is followed out of the folder.
"""
