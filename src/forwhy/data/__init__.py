"""Data sets: tables, splits, leaks, phrases, a generated little town, and importers."""
