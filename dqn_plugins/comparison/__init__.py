"""
Comparison runs: algorithms × environments × seeds, in parallel, resumable, reported honestly.

Example::

    from pathlib import Path
    from dqn_plugins.comparison import ComparisonSettings, run_comparison, write_report

    if __name__ == "__main__":
        settings = ComparisonSettings(
            env=("CartPole-v1",), algo=("stream_q", "random"), seeds=2, timesteps=2_000,
            out=Path("runs/cart_pole"),
        )
        result = run_comparison(settings)
        print(write_report(result.out))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dqn_plugins.comparison.settings import ComparisonSettings
from dqn_plugins.extras import require_extra

if TYPE_CHECKING:
    from dqn_plugins.comparison.report.page import write_report
    from dqn_plugins.comparison.study import ComparisonResult, run_comparison

__all__ = ["ComparisonResult", "ComparisonSettings", "run_comparison", "write_report"]

# Imported when they are asked for: the command line shows its help without them.
_LATER = {"ComparisonResult": "study", "run_comparison": "study", "write_report": "report.page"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        modules = ("filelock", "jinja2", "joblib", "matplotlib", "pandas", "scipy")
        require_extra("compare", name, *modules)
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
