"""Pages for applicants: each reads the input, calls a service, and shows the result.

common     finds the model of a page; asks before something is ended for good
licences   licence texts, each version at its own URL
machines   approves a machine (`hf auth login`), and signs it out
messages   messages between an applicant and the reviewers
mine       a person's own requests, grants and tokens
oauth_api  the endpoints that clients call to sign in, without cookies
recent     requires a recent sign-in for actions that a stolen session must not allow
requests   the request form; withdrawing and appealing
trusted    repositories whose CI jobs may read on a person's behalf
"""
