"""The Hub's wire protocol, write side: what `hf upload` and `upload_folder` send without Xet.

commit         lines of JSON as one commit
create         repositories and branches; validate-yaml
lfs            large objects: batch, the bytes, parts and their completion, verify
preupload      how each file is to be sent
pull_requests  the refusal of pull requests; held revisions take their place
urls           the addresses
xet            the refusal that names the variable to set
"""
