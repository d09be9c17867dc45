"""Receive uploads by the Hub's wire protocol: what `hf upload` and `upload_folder` send without Xet.

commit         a commit, sent as lines of JSON
create         repositories and branches; validate-yaml
lfs            large objects: batch, the bytes, parts and their completion, verify
preupload      how to send each file
pull_requests  the refusal of pull requests, which held revisions replace
urls           the routes
xet            the refusal that names the variable to set
"""
