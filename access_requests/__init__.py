"""The people side of the portal: who asks for a model, who decides, and who may read it.

access         who may read or decide, which models a person sees, where a person stands with a model
admin          the reviewers' and owners' pages
cards          model cards: from a README.md to front matter and the form of its gate
models         the tables
rendering      Markdown of cards and forms as safe HTML
request_form   the form that an applicant fills in, built from a card's gate
services       every rule, and everything that writes to the database
views          pages for applicants and the endpoints of signing in from a client
addresses      clients' addresses in one spelling
apps           Django's configuration of this app
counters       counters of attempts, kept in the cache
enums          states, kinds and reason codes, as data
errors         what a service raises when it refuses a call: a sentence, a code and a status
ids            patterns for the ids of repositories, commits and contents
indexing       migration operations that add indexes and checks while the portal runs
lines          text from strangers, cleaned and on one line
panels         where other rooms register what they add to the pages of a request, model or grant
people         full names, for code that has no account object
search         searching long lists by trigrams, in every script
signals        `access_recorded` and `access_granted`: where model_ops learns of a grant
storable_text  which text the database accepts
strict_json    JSON from strangers, checked for size and nesting before it is parsed
tasks          Celery tasks: emails, expired grants, the log's anchor, followed repositories
urls           URLs of the request form, licences, signing in from a client, and a person's own list
"""
