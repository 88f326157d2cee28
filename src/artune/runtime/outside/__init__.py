"""Opening files that come from elsewhere, whatever they hold.

- regular: regular files only, because a pipe or a device would never end
- arrays: the arrays of an npz file, checked before any memory is taken for them
- zips: zip archives without compression bombs, duplicates and encryption
- gzips: gzip files, unpacked in bounded time and memory
"""
