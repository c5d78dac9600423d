"""Sources made at random from a seed, and the question whether their videos differ from them silently.

A family is a function from a random generator to a Case; FAMILIES in families.py lists them. A case
describes how its file is made of numbered clips (tests/media.py), and the expected result, which
convert_and_compare.py checks.
"""
