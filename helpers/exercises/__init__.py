"""Exercises that answer back: check.<name>(answer) says "not answered yet", "not yet, because ...", or "yes".

The engine is registry, judging, check and progress, and needs no torch; the questions are one module for each notebook.
"""
