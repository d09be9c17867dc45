"""One checkpoint folder: its tensors, tied names and buffers.

buffers         tensors that a model computes for itself and that older versions saved
checkpoint      `read_checkpoint`: which tensors a folder holds, where they are, which names are tied
equal_bytes     whether two tensors hold the same bytes
repeated_names  groups of tied names whose number depends on the model's size
tie_table       `ties.json`: which names transformers ties, and under which configuration
ties            which names of a checkpoint are tied
"""
