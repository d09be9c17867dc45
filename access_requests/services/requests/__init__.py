"""What applicants and reviewers do with a request.

decide              decisions by a reviewer or by the model's policy: checked, written, announced
move_between_lists  decisions by the Hub's four lists, also for people who never asked
submit              what an applicant does: start, save, submit, withdraw, appeal
transitions         the table of allowed moves, and the one function that makes them
"""
