"""The Hugging Face Hub's wire protocol, read side, for clients nobody had to change.

route     what every view has in common: methods, refusals, headers
caller    who asks: a Bearer token, nothing else
refusals  every refusal as data: code, status, the Hub's opening words
address   revision and path out of the raw URL, where %2F still differs from /
repo      one model as one caller may see it: the gate, revisions, files
listing   files as tree items, their ids masked for those without access
fields    a model as the Hub's JSON
info, models, tree, history, resolve, whoami, others   the views
"""
