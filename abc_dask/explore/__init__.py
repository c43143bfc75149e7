"""The explorer page: all cells of a view or a store in a browser. README.md has the format."""
