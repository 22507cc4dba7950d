"""Words that gave way to those of the field, and names that say nothing."""

OLD = {
    "told": "conditional, or given",
    "untold": "unconditional",
    "recogniser": "classifier",
    "guesser": "classifier",
    "abstraction": "attribute",
}
"""What each old word is called now."""
EMPTY = {"said", "found", "mine", "whose"}
"""Names that say nothing of what they hold; in the package."""
