"""What can be studied: exact laws, networks that can be told attributes, samplers."""

__all__: list[str] = []
