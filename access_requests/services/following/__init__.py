"""Following a gated repository elsewhere: its requests are decided here, and the decisions told there.

credentials  which token goes to which endpoint, and nowhere else
budget       how often an endpoint may be called; shared by all that is followed there
client       the endpoint's request routes, every failure one of a few kinds
reading      one entry of its lists, cleaned
leases       who works on a row
importing    an entry as a person and a request here
polling      the lists, looked through on a schedule
noticing     the reviewers' email about what a poll brought
drift        what both sides say, and whose word is taken
pushing      one decision told over there, once
listening    which events here are to be told
managing     to follow, to pause, to ask now, to unfollow
"""
