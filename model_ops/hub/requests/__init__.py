"""The Hub's access-request API: a translation of `access_requests.services`.

asking     the applicant's side: ask-access, cancel
decisions  handle, grant, batch
entries    one entry as the Hub's JSON
lists      the four lists and the report
urls       the addresses
words      what the Hub says when it refuses here; our sentence follows
"""
