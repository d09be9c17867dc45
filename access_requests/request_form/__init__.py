"""The form that an applicant fills in, built from a card's gate.

answers       answers as data: which ones are missing, how they are shown, what the portal already knows
builder       the Django form for a stored gate form, one input per field
fields        the inputs, and what each one accepts
publications  publications, one per line: DOIs, arXiv ids or links
"""
