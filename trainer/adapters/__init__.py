"""The stream in other people's trainers; docs/other-trainers.md has the lines to change there.

samples    a batch, or one sample, as each trainer reads it
loaders    the stream, in the form that its loop asks for
"""
