"""What results hold beside the curves of a study."""

__all__: list[str] = []
