"""The site: composes people side and weights side, and owns nothing that they could own.

accounts         people: accounts, sessions, sign-in, profile
database         Django's backend for PostgreSQL with a pool and limits
demo             the demo model and the walk through the whole job
embedded         PostgreSQL, Valkey and the whole portal started from Python
pages            pages that need both sides
admin            titles of the admin's site
admin_site       the admin's site, whose pages never answer 5xx
apps             Django's configuration of this app
arriving         one request while it arrives, and when it is late
cache            the cache, without which pages still stand
celery           the Celery application
clock            beat's schedule, in memory
context          what every template may use
database_rights  what the portal's database role may do
door             what stands before Django: trusted headers, sizes of requests
draining         how a web worker stops without cutting anyone off
environment      reads the environment; a wrong value is one sentence
errors           the pages of errors
health           `/healthz`
housekeeping     deletes what is kept for a limited time
middleware       the client's address, bodies refused unread, former ids
outbox           emails on a page, where there is no mail server
outgoing         answers that a client is slow to take
parts            which variables of the environment each process gets
private          runs a module with files and memory closed to others
proxies          whose word counts about a client's address
refusing         refusals before a request is read
settings         Django's settings, all from the environment
shares           what connections hold, counted by sender
signs            signs of life of the workers and the clock
smtp             SMTP whose conversations end
tasks            the housekeeping task
unavailable      what people and clients are told while database or disk are missing
urls             every address of the site, in the order in which they are tried
webserver        settings of gunicorn
webworker        gunicorn's worker, whose threads never wait for slow clients
wsgi             what gunicorn serves
"""

from portal.celery import app as celery_app

__all__ = ["celery_app"]
