"""The human study (paper, Table 3): pairs of images, a page to rate them on, and the counting of votes.

``make`` draws the pairs, ``serve`` and ``store`` take votes, ``tally`` counts them, ``table`` sets Table 3, ``judge``
is the automatic judge beside it. What they share, the file of pairs, is in ``pairs``.
"""
