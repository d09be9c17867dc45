"""Signing in from a client: a person approves a machine in the browser, or a CI job proves its identity.

codes     the device flow: a short code, a decision in the browser, tokens for the client
errors    errors of the token endpoints
exchange  exchanges the signed identity of a CI job for a short-lived token
issuers   the names that each trusted issuer uses in its tokens
keys      an issuer's public keys: fetched, cached, and fetched again from time to time
limits    limits the number of attempts
machines  signed-in machines: access tokens, and refresh tokens that work once
trusted   repositories that a person trusts to read on their behalf
"""
