"""Store content, and show it as Git does.

blobs        the store: content under its SHA-256, written once, never changed
bucket       copies of large files in a bucket, and signed links to them
content      metadata of stored files: headers, shards, config.json
git_objects  Git's view of a revision: attributes, ids of trees and commits
"""
