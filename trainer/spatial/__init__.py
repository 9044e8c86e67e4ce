"""What part of the stored picture a sample shows, and how large.

transform   a box, a size, a mirror: on frames, on flow and on visibility alike
framing     which of them a position draws
"""
