"""Following a gated repository elsewhere: its requests are decided here, and decisions are reported there.

budget       how often an endpoint may be called; shared by all that is followed there
client       the endpoint's request routes, every failure one of a few kinds
credentials  which token goes to which endpoint, and nowhere else
drift        what both sides say, and whose word is taken
errors       why a remote did not do what was asked of it
importing    an entry as a person and a request here
listening    which events here have to be reported
managing     follow, pause, poll now, unfollow
noticing     the reviewers' email about what a poll brought
polling      the remote's lists, read on a schedule
pushing      reporting one decision, once
reading      one entry of the remote's lists, cleaned
taking       a reviewer's choice where both sides differ
texts        a remote's text as one line that can be stored and shown
troubles     what went wrong with following, kept for the owner; an email when it lasts
wire         the one reader of a remote's answers: bounded in bytes, seconds and nesting
"""
