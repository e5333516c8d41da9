"""The exercises of notebook 03, in the order in which they come. `run` holds the notebook's variables."""

from helpers.check import Reply, Run, number


def wasted_share(answer, run: Run) -> Reply:
    """Read the output: what share of the positions is padding when every row is padded to the fixed length?"""
    fixed = run.shares[f"fixed ({run.settings.max_length})"]
    return number(
        answer,
        fixed,
        yes="Most of the computing would be spent on nothing. Look for that first when training is slow.",
        mistakes=[
            (100 * fixed, "that is the percentage. Give the share: a number from 0 to 1."),
            (1 - fixed, "that is the share of real tokens. The padding is the rest."),
            (run.shares["per batch"], "that is the share when each batch is padded to its own longest row."),
            (
                run.shares["grouped by length"],
                "that is the share with rows grouped by length: the smallest of the three.",
            ),
        ],
        hint="look at the longest bar of the figure: it shows the percentage.",
    )
