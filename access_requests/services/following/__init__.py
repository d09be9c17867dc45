"""Following a gated repository elsewhere: its requests are decided here, and decisions are reported there.

budget       limits the calls to an endpoint, for all repositories followed there
client       calls the endpoint's request routes; every failure is one of a few errors
credentials  chooses the token for an endpoint; no other endpoint gets it
drift        compares both sides, and plans what to report
errors       why a call to a remote failed
importing    imports an entry as a person and a request here
listening    finds the events that must be reported
managing     follows, pauses, polls now, unfollows
noticing     the reviewers' email about what a poll brought
polling      reads the remote's lists on a schedule
pushing      reports one decision, once
reading      reads and cleans one entry of the remote's lists
taking       settles a difference between both sides as a reviewer chooses
texts        cleans a remote's text to one line that can be stored and shown
troubles     records problems with following for the owner; emails if one lasts
wire         reads all answers of remotes, with limits on bytes, seconds and nesting
"""
