"""People: accounts, sessions, sign-in and profile.

activity    when and where a session was last seen, and with what browser
adapter     how allauth behaves here
addresses   links in emails, always at GATEHOUSE_URL
admin       people in the admin, and signing in to it
apps        Django's configuration of this app
factors     the rule for where a second factor is required
forms       sign-up, sign-in, profile, becoming the owner
guessing    limits on guessing passwords and codes
middleware  the admin only with a second factor
models      people, the owner's link, emails kept by the outbox page
names       which names and user names are accepted
orcid       ORCID iDs and their check digit
owner       the first account, created through a link
people      accounts made by an operator or an import before their owners sign in
protected   allauth's pages that change how an account is protected, in one transaction
receivers   receivers of allauth's signals
recent      decides whether a sign-in is recent
security    changes of passwords, addresses and factors, with event and email
sessions    sessions in the database
urls        addresses included before allauth's own
views       pages about a person's own account
"""
