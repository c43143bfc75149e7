"""Any h5ad file: structure, chunk index, codecs, compiled loops, sources of bytes.

Nothing here knows what a release is.
"""
