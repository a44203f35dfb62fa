"""A comparison's results for other tools: tidy tables, and what goes into a paper."""

import io
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from dqn_plugins.comparison.results import StudyResults
from dqn_plugins.comparison.statistics import clearly_below
from dqn_plugins.comparison.summary import AlgorithmSummary, Summary, interval, number
from dqn_plugins.files import read_json

__all__ = ["citation", "exports"]

COLUMNS = (
    *("environment", "algorithm", "settings", "seed", "status", "identity", "kind", "steps"),
    *("cpu_seconds", "episodes", "return_mean", "return_std", "length_mean"),
)
# A name and, for each column, a text, a smaller text, and whether it is bold.
_Line: TypeAlias = tuple[str, list[tuple[str, str, bool]]]
CITED = ("stable_baselines3", "sb3_contrib", "gymnasium", "torch", "numba", "numpy")


def exports(summary: Summary) -> dict[str, bytes]:
    """
    Make the content of ``evaluations.csv`` (one row per evaluation), ``scores.npz`` (rliable's
    dictionary of arrays, one row per run and one column per environment; ``normalised_scores.npz``
    where random actions were run), ``table.md``, ``table.tex`` and ``citation.txt``.
    """
    scores = {
        name: np.transpose([list(seeds.values()) for seeds in by_env])
        for name in summary.study.algorithms
        if (by_env := _on_all(summary.study, name))
    }
    normalised = {each.algorithm: np.transpose(each.scores) for each in summary.overall
                  if each.scores and len({*map(len, each.scores)}) == 1}  # fmt: skip
    return {
        "evaluations.csv": _evaluations(summary.study).to_csv(index=False).encode(),
        "scores.npz": _arrays(scores),
        "table.md": _table(summary, _markdown).encode(),
        "table.tex": _table(summary, _latex).encode(),
        "citation.txt": f"{citation(summary.study)}\n".encode(),
        **({"normalised_scores.npz": _arrays(normalised)} if normalised else {}),
    }


def _evaluations(study: StudyResults) -> pd.DataFrame:
    rows: list[tuple[Any, ...]] = []
    for cell in study.cells:
        source = study.source_of(cell.algorithm)
        known = (cell.environment, cell.algorithm, source, cell.seed, cell.status, cell.identity)
        if cell.evaluations is not None:
            for steps, seconds, returns, lengths in zip(*cell.evaluations, strict=True):
                figures = (len(returns), returns.mean(), returns.std(), lengths.mean())
                rows.append((*known, "training", int(steps), seconds, *figures))
        if cell.final_episodes is not None:
            returns, lengths = (cell.final_episodes[name] for name in ("return", "length"))
            spent = (cell.timings["training_steps"], cell.timings["training_cpu_seconds"])
            figures = (len(returns), returns.mean(), returns.std(ddof=0), lengths.mean())
            rows.append((*known, "final", int(spent[0]), spent[1], *figures))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _on_all(study: StudyResults, algorithm: str) -> list[dict[int, float]]:
    """The final returns of the seeds that are finished on every environment, by environment."""
    by_env = [
        {cell.seed: cell.final_return for cell in study.finished(environment, algorithm)}
        for environment in study.environments
    ]
    seeds = sorted(set.intersection(*map(set, by_env)))
    return [{seed: returns[seed] for seed in seeds} for returns in by_env] if seeds else []


def _arrays(scores: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    np.savez(content, **scores)
    return content.getvalue()


# --- a table of algorithms by environments ---


def _table(summary: Summary, write: Callable[[list[str], list[_Line], str], str]) -> str:
    study = summary.study
    sources = {name: study.source_of(name) for name in study.algorithms}
    with_source = any(source not in ("", "defaults") for source in sources.values())
    heads = ["algorithm", *["settings"][:with_source], *study.environments]
    leading = {environment: _leading(summary, environment) for environment in study.environments}
    lines = []
    for name, source in sources.items():
        rows = [row for row in summary.rows if row.algorithm == name]
        figures = [_figure(row, name in leading[row.environment]) for row in rows]
        lines.append((name, [(source, "", False)][:with_source] + figures))
    n_seeds = f"{len(study.seeds)} seeds" if len(study.seeds) > 1 else "one seed"
    note = (
        f"Greedy return after training: interquartile mean over {n_seeds} (95 % bootstrap "
        "interval). Bold: what the highest is not clearly ahead of, where it is of any."
    )
    return write(heads, lines, note)


def _leading(summary: Summary, environment: str) -> set[str]:
    """The best and what it cannot be told apart from; empty if it is ahead of nobody."""
    rows = [row for row in summary.ranked(environment) if row.final is not None]
    if len(rows) < 2:
        return set()
    others = [row.returns for row in rows[1:]]
    below = clearly_below(rows[0].returns, others, len(summary.study.environments))
    if not any(below):
        return set()
    level = [row.algorithm for row, clear in zip(rows[1:], below, strict=True) if not clear]
    return {rows[0].algorithm, *level}


def _figure(row: AlgorithmSummary, leads: bool) -> tuple[str, str, bool]:
    value = number(None if row.final is None else row.final.value)
    parts = [] if interval(row.final) == "–" else [interval(row.final)]
    parts += [row.seeds_label] * (len(row.finished) < len(row.cells))
    return value, f" ({'; '.join(parts)})" if parts else "", leads


def _markdown(heads: list[str], lines: list[_Line], note: str) -> str:
    rows = [heads, ["---"] * len(heads)]
    for name, entries in lines:
        figures = [f"**{value}**{rest}" if bold else value + rest for value, rest, bold in entries]
        rows.append([f"`{name}`", *figures])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{note}\n"


def _latex(heads: list[str], lines: list[_Line], note: str) -> str:
    def plain(text: str) -> str:
        escaped = re.sub(r"([&%#_$])", r"\\\1", text)
        return escaped.replace("−", "$-$").replace("–", "--")

    def figure(value: str, rest: str, bold: bool) -> str:
        large = rf"\textbf{{{plain(value)}}}" if bold else plain(value)
        return large + (rf" {{\small {plain(rest.strip())}}}" if rest else "")

    rows = [
        [rf"\texttt{{{plain(name)}}}", *(figure(*entry) for entry in entries)]
        for name, entries in lines
    ]
    columns = "".join("l" if head in ("algorithm", "settings") else "r" for head in heads)
    table = pd.DataFrame(rows, columns=[*map(plain, heads)])
    written = table.to_latex(index=False, escape=False, column_format=columns)
    return f"% \\usepackage{{booktabs}}\n{written}% {note}\n"


def citation(study: StudyResults) -> str:
    """Say in a line or two how the results were made: versions, commit, machine, command."""
    finished = [cell for cell in study.cells if cell.status == "finished"]
    lines = []
    for versions in {str(cell.versions): cell.versions for cell in finished}.values():
        known = {"dqn_plugins": "?", "python": "?", "platform": "?", **versions}
        commit = f" (commit {known['commit']})" if "commit" in known else ""
        libraries = [f"{name} {known[name]}" for name in CITED if name in known]
        machine = known.get("cpu") or known.get("processor", "")
        lines.append(
            f"dqn_plugins {known['dqn_plugins']}{commit}, Python {known['python']}, "
            f"{', '.join(libraries)}; {', '.join(filter(None, (known['platform'], machine)))}."
        )
    ends = (str(read_json(cell.folder / "done.json").get("finished", "")) for cell in finished)
    dates = sorted({end[:10] for end in ends if end})
    when = f", {' to '.join(dict.fromkeys((dates[0], dates[-1])))}" if dates else ""
    counted = {"algorithm": study.algorithms, "environment": study.environments}
    size = ", ".join(
        f"{len(each)} {noun}{'s' * (len(each) != 1)}"
        for noun, each in {**counted, "finished run": finished}.items()
    )
    return "\n".join([*lines, f"{size}{when}.", str(study.settings.get("command", ""))]).strip()
