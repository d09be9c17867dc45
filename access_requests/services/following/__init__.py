"""Follow a gated repository elsewhere: decide its requests here, and report the decisions to the remote.

credentials  which token goes to which endpoint, and nowhere else
budget       how often an endpoint may be called; shared by all that is followed there
client       the endpoint's request routes, every failure one of a few kinds
reading      one entry of its lists, cleaned
leases       who works on a row
importing    an entry as a person and a request here
polling      reading the lists on a schedule
noticing     emailing reviewers about the requests that a poll brought
drift        comparing what both sides say
pushing      reporting one decision to the remote, once
listening    choosing the events to report
managing     follow, pause, poll now, unfollow
"""
