"""What applicants and reviewers do with a request.

claims              who works on a request, and which requests are on hold
decide              decisions by a reviewer or by the model's policy: checks, writes, informs
families            one form for several models, and one decision about its requests
messages            notes for reviewers, and messages between reviewers and the applicant
move_between_lists  decisions in terms of the Hub's four lists, even for people who never asked
shown_answers       answers as pages show them, version by version
submissions         every version of a request: record, read, compare
submit              the applicant's actions: start, save, submit, change, withdraw, appeal
transitions         the table of allowed moves, and the only function that makes them
"""
