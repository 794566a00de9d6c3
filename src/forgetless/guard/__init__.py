"""The budget: lose at most this share of what was known. Looks, acts, and a verdict on items that the guard never saw."""
