"""Pages for applicants: they read what was sent, call a service, and show what it says.

common     what every page about a model does first; the question before something ends for good
licences   licence texts, each version at its own address
machines   approving a machine (`hf auth login`), and signing it out
mine       a person's own requests, grants and tokens
oauth_api  the endpoints that clients call to sign in, without cookies
recent     asks for a recent sign-in before something that a stolen session must not do
requests   the request form, withdrawing and appealing
trusted    repositories whose CI jobs may read in a person's name
"""
