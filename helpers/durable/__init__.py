"""Nothing is lost, nothing is half there: whole files, one hand-off, checkpoints, the Hub's moods, errors, Drive.

This wing never imports the course; it could serve another one.
"""
