"""The Hugging Face Hub's wire protocol, for unmodified clients; `model_ops.urls` has the routes.

requests     the access-request API
uploads      the write side: `hf upload` and `upload_folder`
address      revision and path from the raw URL, where %2F still differs from /
body         a request's small body: JSON and its texts, or a refusal
caller       who sent the request: by Bearer token only
fields       a model as the Hub's JSON, one function per field
files        the file at a URL, by one compiled query
history      views: refs and commits
info         views: one model
limits       how many requests per minute a token or address may make
listing      files as tree items, with ids masked for callers without access
models       views: the catalogue (`list_models`)
others       views: calls not about models, answered quietly or refused with a known code
paging       pages of a list, linked by `Link` headers
receiving    bodies read in pieces: counted, and closed if they stall
refusals     every refusal: code, status, the Hub's message
repo         one model as a caller may see it: gate, revisions, files
reports      views: reports of leaked tokens
resolve      views: files (`resolve`, `raw`)
rights       checks for what needs a reviewer token: decisions, settings, uploads
route        what all views share: methods, refusals, headers
safetensors  views: the headers of all shards of a model in one response
settings     views: settings that an owner changes from a script
tree         views: tree and paths-info
whoami       views: whoami-v2 and auth-check
"""
