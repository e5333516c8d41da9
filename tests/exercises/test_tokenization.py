"""The exercises of notebook 03."""

import tempfile
from pathlib import Path

from cases import Case, exercise_tests
from support import make_settings

settings = make_settings(Path(tempfile.mkdtemp(prefix="lesson-")))
NAMES = {
    "settings": settings,
    "shares": {"fixed (128)": 0.8826, "per batch": 0.7076, "grouped by length": 0.0566},
}
CASES = {
    "wasted_share": Case(
        right=[0.8826, 0.88],
        wrong=[(88.26, "from 0 to 1"), (0.1174, "real tokens"), (0.7076, "its own longest"), (0.5, "longest bar")],
    ),
}
TestExercises = exercise_tests("tokenization", NAMES, CASES)
