"""Classes of images from outside.

- folders: the class of every image of a data set, by synset id or by a file that maps other names
- labels: class labels from outside, converted where that is certain and refused where not
"""
