"""What applicants and reviewers do with a request.

decide              decisions by a reviewer or by the model's policy: checks, writes, informs
move_between_lists  decisions in terms of the Hub's four lists, even for people who never asked
submit              the applicant's actions: start, save, submit, withdraw, appeal
transitions         the table of allowed moves, and the only function that makes them
"""
