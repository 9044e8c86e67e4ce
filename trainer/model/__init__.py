"""Networks; the part that is meant to be replaced.

transformer   a small space-time transformer
"""
