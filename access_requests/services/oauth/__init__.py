"""Signing in from a client: by approving a machine in the browser, or by the identity of a CI job.

codes     the device flow: a short code, a decision in the browser, tokens for the client
errors    what a token endpoint says when it refuses
exchange  the signed identity of a CI job for a short token
issuers   what each trusted issuer calls things in its tokens
keys      an issuer's public keys: fetched, kept, asked for again now and then
limits    how often someone may try
machines  signed-in machines: access tokens by refresh tokens that are used once
trusted   repositories that a person trusts to read in their name
"""
