"""For a teacher and a maintainer: run the whole lesson, and see what a class has solved."""
