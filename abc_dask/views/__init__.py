"""The persisted result: staging, commit, one module per format, integrity."""
