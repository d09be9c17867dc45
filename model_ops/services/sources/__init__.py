"""Weight sources: what may be named, by whom, and what it resolves to.

assign  folders and repositories that a superuser gives a namespace
rights  who may name which source; checked again before anything is read
spec    a source from its text: a folder, a Hub repository at a commit, an upload
upload  a revision uploaded here as a source (`gatehouse:REPO_ID@COMMIT`)
"""
