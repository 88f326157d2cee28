"""The human study behind Table 3: people choose between images of the pretrained and the tuned policy.

- make: drawing the pairs
- pairs: the file of pairs
- sessions: which pairs a rater sees, and on which side
- votes: the file of votes, and what it must hold to be read
- store: what raters do to the votes
- first_page: purpose, duration, consent and contact on the page
- serve: the page that people rate on
- connections: limits of requests and connections
- judge: a network's choices
- tally: counting the votes
- table: Table 3
"""
