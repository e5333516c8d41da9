"""The teacher's side: the lesson run as a student would, and the table of a class."""
