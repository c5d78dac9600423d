"""Ablation: one guard of the product is removed, and the invariant checks must find the damage."""
