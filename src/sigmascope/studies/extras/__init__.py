"""Variables of results beside the curves of a study."""

__all__: list[str] = []
