"""Columns: whatever a data set calls them, the course's are "sentence" and "label", and hold what they should."""

from datasets import ClassLabel, DatasetDict

from helpers.durable.errors import LessonError, first_line

TEXT_COLUMNS, LABEL_COLUMNS = ("sentence", "text", "review", "content"), ("label", "labels", "sentiment")


def standard_columns(dataset: DatasetDict) -> DatasetDict:
    """Return the data with its text column named "sentence" and its label column "label" (a ClassLabel).

    A split beside train that has not both is left out.

    Raises:
        LessonError: there is no such column, a sentence is missing or no text, or the labels are no whole numbers from
            0 and no names.
    """
    if "train" not in dataset:
        raise LessonError(
            f"The data has the splits {', '.join(dataset)}, and none is named train. Choose other data.",
            "no-train-split",
        )
    columns = dataset["train"].column_names
    for wanted, candidates in (("sentence", TEXT_COLUMNS), ("label", LABEL_COLUMNS)):
        found = next((c for c in candidates if c in columns), None)
        if found is None:
            raise LessonError(
                f"The data has the columns {', '.join(columns)}; none of them is a {wanted} column "
                f"({', '.join(candidates)}). Rename one with dataset.rename_column, or choose other data.",
                "no-column",
            )
        dataset = DatasetDict({name: part for name, part in dataset.items() if found in part.column_names})
        if found != wanted:
            dataset = dataset.rename_column(found, wanted)
    for name, part in dataset.items():
        missing = sum(not isinstance(sentence, str) for sentence in part["sentence"])
        if missing:
            raise LessonError(
                f"{missing:,} of the {len(part):,} rows of {name} have no text (or something else) in their sentence "
                "column. Remove them with dataset.filter, or choose other data.",
                "no-text",
            )
    return name_labels(dataset)


def name_labels(dataset: DatasetDict) -> DatasetDict:
    """Return the data with a ClassLabel as its "label", and no label beyond its names. See `standard_columns`."""
    if not isinstance(dataset["train"].features["label"], ClassLabel):
        values = [label for label in dataset["train"]["label"] if not (label is None or label == -1)]
        texts, numbers = (all(type(label) is kind for label in values) for kind in (str, int))
        values = sorted(set(values)) if texts or numbers else values
        if numbers and len(values) == 1:
            raise LessonError(
                "All rows of train have the same label: nothing can be learned. Choose other data.", "one-label"
            )
        if not values or not (texts or (numbers and values == list(range(len(values))))):
            raise LessonError(
                f"The labels are {values[:5]}; they should be 0, 1, ... or names. "
                "Map them to whole numbers from 0 first, or choose other data.",
                "odd-labels",
            )
        names = [str(value) for value in values]  # 0 and 1 need not mean negative and positive
        try:
            dataset = dataset.cast_column("label", ClassLabel(names=names))  # names become their numbers
        except Exception as error:
            raise LessonError(
                f"Another split has labels that train has not ({first_line(error)}). Remove those rows with "
                "dataset.filter, or choose other data.",
                "unknown-label",
            ) from error
    count = dataset["train"].features["label"].num_classes
    for name, part in dataset.items():
        worst = max((label for label in part["label"] if label is not None), default=0)
        if worst >= count:
            raise LessonError(
                f"A label in {name} is {worst}, but train's labels are 0 to {count - 1}. Remove such rows with "
                "dataset.filter, or choose other data.",
                "unknown-label",
            )
    return dataset
