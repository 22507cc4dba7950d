"""What a study leaves beside its curves."""

__all__: list[str] = []
