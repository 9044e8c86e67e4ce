"""Files by which other readers find their way in our tars; a dataset has them only where asked for.

samples    what lies where in a tar          formats   one small file beside each tar
energon    the folder that describes tars    write     all files of one reader
"""
