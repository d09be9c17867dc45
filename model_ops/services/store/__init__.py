"""What is stored.

blobs        the store: content under its SHA-256, written once, never changed
bucket       copies of large files in a bucket, and signed links to them
content      what stored files say of themselves: headers, shards, config.json
git_objects  git's view of a revision: attributes, ids of trees and commits
"""
