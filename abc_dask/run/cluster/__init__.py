"""Where tasks run: this machine, batch systems, TLS between processes."""
