"""People: accounts, sessions, sign-in and profile.

activity    when a session was last seen, from where and by what
adapter     how allauth behaves here
addresses   links in emails, always at GATEHOUSE_URL
admin       people in the admin, and signing in to it
apps        Django's configuration of this app
factors     where a second factor is required
forms       sign-up, sign-in, profile, becoming the owner
guessing    how often a password or a code may be guessed
middleware  staff rights only with a second factor
models      people, the owner's link, emails kept by the outbox page
names       which names and user names are accepted
orcid       ORCID iDs and their check digit
owner       the first account, made through a link
people      people whom an operator names or an import brings, before they sign in
protected   allauth's pages that change how an account is protected, in one transaction
receivers   what we do when allauth reports something
recent      what counts as a recent sign-in
security    changes to how an account is protected: event and email with each
sessions    sessions in the database
urls        addresses that come before allauth's own
views       pages about oneself
"""
