"""Read the files of a checkpoint. Everything that an untrusted file claims is checked before it is used.

config          the few values that are read from and changed in config.json
dtypes          number formats: their names and sizes
file_names      what a file's name says: shards, unfinished downloads, second copies, licences
folder          which files of a folder may be opened
git_ids         git's ids for files and for Git LFS pointers
gzip_files      payload files compressed with gzip
layout          how recovered tensors are laid out in files: order, shards, index
missing_folder  why a path is not a folder, and which one was meant
reading         reads ranges of files into memory, leaving nothing in the page cache
safetensors     safetensors headers, read and written
tensors         where one tensor is stored: file, range, dtype, shape
torch_dtypes    the dtypes as torch knows them
torch_pickle    the pickle of a PyTorch checkpoint, read without running anything
torch_zip       PyTorch `.bin` files
zip_directory   the directory of a zip file with uncompressed entries
"""
