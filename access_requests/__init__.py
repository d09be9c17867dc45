"""The people side: who asks for a model, who decides, and who may read it.

access         who may read or decide, which models a person sees, where a person stands with a model
admin          the reviewers' and owners' pages
cards          model cards: from a README.md to front matter and the form of its gate
models         the tables
rendering      Markdown of cards and forms as safe HTML
request_form   the form that an applicant fills in, built from a card's gate
services       every rule and every write
views          pages for applicants and the endpoints of signing in from a client
addresses      clients' addresses, written one way everywhere
apps           Django's configuration of this app
counters       counts of tries in the cache
enums          states, kinds and reason codes, as data
errors         what a service raises when it refuses: a sentence, a code and a status
ids            how ids of repositories, commits and contents are written
indexing       migration operations that add indexes and checks while the portal runs
lines          text from strangers on one line
panels         where other rooms register what they show on pages of a request, model or grant
people         full names, where no account object is at hand
search         search in long lists, by trigrams in every script
signals        `access_recorded` and `access_granted`: where model_ops learns of a grant
storable_text  which text the database takes
strict_json    JSON from strangers, bounded in size and nesting before it is parsed
tasks          Celery tasks: emails, the ends of grants, the log's anchor, followed repositories
urls           addresses of the request form, licences, signing in from a client, and a person's own list
"""
