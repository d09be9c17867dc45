"""Publish files as a revision.

licence_files  licence texts: named files, those next to the card, or the card's prompt
publish        revisions: rows that point at stored contents
"""
