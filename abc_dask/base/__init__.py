"""Names that everyone uses: errors, settings, messages, records, progress."""
