"""Findings and recordings turned into formats, one format per file."""
