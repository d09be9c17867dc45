"""All rules and writes of the weights side, called by views, admin, tasks and commands.

catalogue   adding a model with its weights, importing its card
downloads   the download log: journal, rows, nginx's log, counts
recoveries  making weights, from the grant that needs them to the published revision
revisions   publishing files as a revision
sources     weight sources: what may be named, by whom, and what it resolves to
store       content under its SHA-256, copies in a bucket, Git's view of it
uploads     from a client's bytes to a revision that an owner publishes
clean       removing contents and fetched sources that nothing uses any more
"""
