"""What shares a model over HTTP."""
