"""Who may read, who may decide, and where a person stands with a model. Reads only; nothing here writes.

access          `access_of`: may this person read this model now, and if not, why; the sentence of each refusal
catalogue       which models a person sees, and which model an address names
compiled_query  queries that every request asks, compiled once and run with new values
list_pages      one page of the Hub's four lists, whatever the model's size
permissions     who is owner, who is reviewer
review_lists    in which of the Hub's four lists a person is, and the entry shown there
situation       the one rule of where a person stands (grant or request), and its three tables
standing        what a person is to a model, read in one query
"""
