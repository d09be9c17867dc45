"""Pages that need both sides: who may, and how far the weights are.

access     the download page of someone with a grant
card       what pages show beside a model card's text
catalogue  the first page: what can be asked for
commands   commands that a person pastes
downloads  the download log: a person's own, and a model's
model      a model's page
stages     the line from submitted to downloadable
standing   where a visitor stands with a model, as a badge
tokens     a person's tokens: made, shown once, rotated, revoked
urls       the catalogue, models, and what someone with a grant sees
"""
