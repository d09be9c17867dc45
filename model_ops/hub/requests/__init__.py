"""The Hub's access-request API: a translation of `access_requests.services`.

entries    one entry as the Hub's JSON
lists      the four lists and the report
decisions  handle, grant, batch
asking     the applicant's side: ask-access, cancel
words      what the Hub says when it refuses here; ours comes after it
"""
