"""Which notebooks there are, and which exercises each holds, in order: names only, so that a list costs nothing."""

TITLES = {
    "gpu": "1. Is there a GPU?",
    "data": "2. The data",
    "tokenization": "3. Tokens",
    "training": "4. Training",
    "evaluation": "5. How good is it, really?",
    "speed": "6. Go faster",
}
# The public functions of helpers/exercises/<notebook>.py (a test holds the two equal).
EXERCISES = {
    "gpu": ("longest_by_shortest", "small_tables", "precision_for", "other_machine", "training_seconds"),
    "data": ("rows_without_label", "half_held_out", "luckiest_of_many", "majority_accuracy", "leaky_pair"),
    "tokenization": ("continued_pieces", "lost_pieces", "padded", "wasted_share", "own_order"),
    "training": ("new_share", "first_loss", "steps_needed", "which_epochs", "schedule"),
    "evaluation": ("interval_width", "half_as_wide", "more_agreement", "mistakes_when_sure", "best_of"),
    "speed": ("seconds_at_the_limit", "sentences_a_second", "biggest_gain", "without_padding", "share_made_faster"),
}
