"""Pages that need both sides: who has access, and how far the weights are.

access     the download page of someone with a grant
card       facts shown next to a model card's text
catalogue  the first page: the list of models
commands   commands to copy
downloads  the download log: a person's own, and a model's
model      a model's page
stages     the stages from submitted to downloadable
standing   where a visitor stands with a model
tokens     a person's tokens: created, shown once, rotated, revoked
urls       the catalogue, model pages, and pages for grant holders
"""
