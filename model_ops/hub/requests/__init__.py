"""The Hub's access-request API, mapped to `access_requests.services`.

asking     the applicant's side: ask-access, cancel
decisions  handle, grant, batch
entries    an entry as the Hub's JSON
lists      the four lists of requests, and the report
urls       the addresses
words      the Hub's messages for refusals; our sentence follows
"""
