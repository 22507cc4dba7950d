"""Subjects of studies: exact laws, conditional networks, samplers."""

__all__: list[str] = []
