"""Every rule of the weights side and every write. Views, admin, tasks and commands call these.

catalogue   adding a model with its weights, importing its card
downloads   the download log: journal, rows, nginx's log, counts
recoveries  making weights, from the grant that wants them to the published revision
revisions   publishing files as a revision
sources     weight sources: what may be named, by whom, and what it resolves to
store       contents under their SHA-256, their copies in a bucket, git's view of them
uploads     from a client's bytes to a revision that an owner publishes
clean       removes contents and fetched sources that nothing uses any more
"""
