"""Handle uploads: from the bytes of a client to a revision that an owner publishes.

paths       which names a repository takes, and which of them a .gitignore leaves out
staging     content that has arrived and is not in a revision yet
addresses   signed addresses to which one object's bytes may be sent for a while
objects     which large objects still have to be sent, and where to
operations  what a client asks of a commit
files       a branch's files while a commit changes them
contents    the contents that a commit's operations name, looked up and stored before the event log is locked
committing  a commit: operations on the branch's files, as one new revision
inspecting  whether uploaded files are what their names promise, before readers get them
holding     held revisions: what they would change, publishing and discarding them
rules       whether a model publishes uploads at once
sources     an upload as a weight source
creating    repositories and branches that a client makes
"""
