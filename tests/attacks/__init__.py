"""Attacks on one node, while honest clients run at a steady rate: what those feel, and what it costs.

`attack.py` and `honest.py` are processes of their own, `stage.py` runs them beside a node, `test_attacks.py`
is the short form, `python -m tests.attacks` the long one, whose table is docs/attacks.md.
"""
