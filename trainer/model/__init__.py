"""Networks; the part that is meant to be replaced.

network      which network a configuration asks for     transformer   our space-time transformer
adapted      video networks of diffusers, with the same call
context      what a network is told of a clip           text          captions, embeddings, classes
"""
