"""The rivals of the paper's method.

- mle: likelihood continuation (Table 12)
- vapi: VA-pi (Table 5)
"""
