"""Uploads: from the bytes of a client to a revision that an owner publishes.

addresses   signed addresses to which one object's bytes may be sent for a day
committing  a commit: operations on the branch's files, as one new revision
contents    the contents that a commit names, looked up before the event log is locked
creating    repositories and branches that a client makes
errors      refusals that only uploads have, each with the status that clients know
files       a branch's files while a commit changes them
holding     held revisions: what they would change, publishing and discarding them
inspecting  checks that uploaded files are what their names promise
objects     which large objects still have to be sent, and where
operations  what a client can ask of a commit
paths       which names a repository takes, and which of them a .gitignore leaves out
rules       whether a model publishes uploads at once
staging     content that has arrived but is not in a revision yet
"""
