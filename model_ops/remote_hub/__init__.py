"""Another Hub as a source of files. Without Django, since a child process uses it too.

errors            what another Hub's refusals mean, with what to do
fetch_repository  the child process that fetches one repository at a commit
limits            where requests may go: the Hub, the hosts of its files, public addresses
"""
