"""The exercises of a notebook, in the order in which they come. `run` holds the notebook's variables."""
