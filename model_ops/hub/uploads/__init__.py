"""The Hub's wire protocol, write side: what `hf upload` and `upload_folder` send without Xet.

right      who may upload: a reviewer-kind token of an owner
receiving  bodies read in pieces: counted, and ended when nothing comes any more
create     repositories and branches; validate-yaml
preupload  how each file is to be sent
lfs        large objects: batch, the bytes, parts and their completion, verify
commit     lines of JSON as one commit
xet        the refusal that names the variable to set
urls       the addresses
"""
