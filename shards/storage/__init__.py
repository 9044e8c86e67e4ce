"""Where files lie: file systems by URL, what goes wrong with them, and who may write to a folder.

filesystems  opened by URL, and how a file appears whole there
web          HTTP(S), for reading, over connections that are kept
range_cache  what was read of remote files, kept in a local folder
open_files   local tars that stay open
failures     passing or settled, tried again, said in one sentence
locks        one job alone writes to a folder
"""
