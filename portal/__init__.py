"""The site: combines the people side and the weights side, and owns nothing that belongs to either.

accounts         people: accounts, sessions, sign-in, profile
database         Django's backend for PostgreSQL with a pool and limits
demo             the demo model, and a run through the whole job
embedded         PostgreSQL, Valkey and the whole portal started from Python
pages            pages that need both sides
admin            titles of the admin site
admin_site       the admin site, whose pages never answer 5xx
apps             Django's configuration of this app
arriving         collects a request as it arrives, with time limits
cache            the cache; pages work without it
celery           the Celery application
clock            beat's schedule, kept in memory
context          variables for every template
database_rights  what the portal's database role may do
door             checks in front of Django: trusted headers, sizes of requests
draining         lets a web worker stop without cutting anyone off
environment      reads the environment; one sentence for a wrong value
errors           error pages
health           `/healthz`
housekeeping     deletes expired data
middleware       the client's address, bodies refused unread, former ids
outbox           shows emails on a page if there is no mail server
outgoing         answers to slow clients
parts            which environment variables each process gets
private          runs a module with private files and memory
proxies          which proxies are trusted about a client's address
refusing         refusals before a request is read
settings         Django's settings, all from the environment
shares           counts what connections hold, by sender
signs            signs of life of the workers and the clock
smtp             SMTP with a time limit on each conversation
tasks            the housekeeping task
unavailable      answers while the database is down or a disk is full
urls             every address of the site, in matching order
webserver        gunicorn's settings
webworker        gunicorn's worker, whose threads never wait for slow clients
wsgi             the WSGI application
"""

from portal.celery import app as celery_app

__all__ = ["celery_app"]
