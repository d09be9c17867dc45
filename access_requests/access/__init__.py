"""Who may read, who may decide, and where a person stands with a model. Nothing here writes to the database.

access          `access_of`: whether this person can read this model now; the sentence of each refusal
catalogue       which models a person sees, and which model an address names
compiled_query  queries of every HTTP request, compiled once and run with new values
list_pages      one page of the Hub's four lists, whatever the model's size
permissions     who is an owner, who is a reviewer
review_lists    in which of the Hub's four lists a person is, and the entry shown there
situation       the only rule for where a person stands (grant or request), and its three tables
standing        what a person is to a model, read in one query
"""
