"""The Hugging Face Hub's wire protocol, for clients nobody had to change; `model_ops.urls` has the addresses.

requests     the access-request API
uploads      the write side: `hf upload` and `upload_folder`
address      revision and path out of the raw URL, where %2F still differs from /
body         a request's small body: JSON and the texts in it, or a refusal
caller       who asks: a Bearer token, nothing else
fields       a model as the Hub's JSON, one function per field
files        the file behind an address, by one compiled query
history      views: refs and commits
info         views: one model
limits       how many requests a minute a token or address may make
listing      files as tree items, their ids masked for those without access
models       views: the catalogue (`list_models`)
others       views: calls beside models, answered quietly or refused with a known code
paging       pages of a list, joined by `Link` headers
receiving    bodies read in pieces: counted, and ended when nothing more comes
refusals     every refusal as data: code, status, the Hub's opening words
repo         one model as one caller may see it: the gate, revisions, files
reports      views: reports of leaked tokens
resolve      views: files (`resolve`, `raw`)
rights       what takes a reviewer token: deciding, settings, uploads
route        what every view has in common: methods, refusals, headers
safetensors  views: the headers of all of a model's shards in one answer
settings     views: what an owner changes by a script
tree         views: tree and paths-info
whoami       views: whoami-v2 and auth-check
"""
