"""Inspect a source folder before reading its headers: what is in it, and what to do if it cannot be used.

`plan`, `recover`, `make_diff` and `verify` inspect folders; the portal also inspects files to publish and
uploads. All use the same tables, from `contents`, `formats`, `tensors` and
`model_ops.recovery.formats.file_names`. Only names, sizes, the first bytes and safetensors headers are read,
and no link is followed out of the folder.

contents  what a file's first bytes say: pointers, web pages, archives
files     single files of a folder, checked by their first bytes
folder    `inspect_folder`: a folder used as a source of weights
folders   weights in a folder below or above, or behind links
formats   other formats in place of a checkpoint, and how to convert them
listing   a repository judged by its list of files, before anything is fetched
notes     notes about a folder that can be used
reading   first bytes and safetensors headers, wherever the files are
roles     how messages name what is inspected (base, diff, payload ...)
tensors   names, dtypes and shapes that are not plain weights: adapters, quantised tensors
tree      every file of a folder or upload that is published unchanged
weights   the weight files of a folder, and why they do not match
"""
