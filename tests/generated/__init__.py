"""Random sources from a seed, and the check that their videos do not differ from them without a warning.

A family is a function from a random generator to a Case; FAMILIES in families.py lists them. A case
describes how its file is made of numbered clips (tests/media.py), and the expected result, which
convert_and_compare.py checks.
"""
