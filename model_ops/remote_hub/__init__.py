"""Fetch files from another Hub. No Django, since a child process uses it too.

errors            what another Hub's refusals mean and what to do about them
fetch_repository  the child process that fetches one repository at a commit
limits            where requests may go: the Hub, the hosts of its files, public addresses
"""
