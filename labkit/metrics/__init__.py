"""What a model costs and what it is worth: figures with one definition each, printed beside them."""
