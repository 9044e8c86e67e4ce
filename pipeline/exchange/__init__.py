"""Flow of other programs as a layer, and layers for other programs; a file for each pair of frames.

file_names      what a file is of      import_layer    files to a layer
imported_flow   what the files of a clip hold          export_layer    a layer to files
"""
