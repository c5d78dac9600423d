"""Negative controls: one guard of the product is taken away, and the judge has to find what that costs."""
