"""Careful HTTP: redirects, retries, ranges, answers that are checked."""
