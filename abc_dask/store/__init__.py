"""The gene-major store: its layout, making and reading; README.md specifies the format."""
