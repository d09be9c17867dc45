"""Publishing files as a revision.

licence_files  licence texts: named files, those beside the card, or the card's prompt
publish        revisions: rows that point at stored contents
"""
