"""One checkpoint folder: its tensors, tied names and buffers.

buffers         tensors that a model computes for itself and older versions saved
checkpoint      `read_checkpoint`: which tensors a folder holds, where they lie, which names are one
equal_bytes     whether two tensors hold the same bytes
repeated_names  groups of tied names whose number depends on the model's size
tie_table       `ties.json`: what transformers makes one tensor, and under which configuration
ties            which names of a checkpoint are one tensor
"""
