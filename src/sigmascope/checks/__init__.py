"""The statements of the theory, each as a row that is simulated, measured and judged."""

from sigmascope.checks.rows import Row, Verdict, header, names, run_checks, table, to_json

__all__ = ["Row", "Verdict", "header", "names", "run_checks", "table", "to_json"]
