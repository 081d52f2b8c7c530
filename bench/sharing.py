"""How many GPUs people need who share them: policies side by side on invented weeks, decided by the real planner.

Every policy gets as few GPUs as suffice for 95 % of all requests to have a slice within 60 s, and at most 2 % to be
given up. Where a session keeps its slice (A to D), its start is one request; on lease (E to H, S), every burst is, and
those that find their slice still there count as served: the busier the GPUs, the easier that is. A second figure
(`strict`) therefore asks the same of the starts of sessions alone, and is what D is compared with. The weeks and their
assumptions are described in `sharing_trace`; duty is the share of a session in which its GPU computes. Fixed layouts
are searched on the very weeks on which they are judged.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure, Measurement
from bench.sharing_run import POLICIES, Policy, Tally
from bench.sharing_search import needed
from bench.sharing_trace import trace

DUTIES = (0.12, 0.28, 0.54, 0.85)
GUESS = {
    "A": (70,) * 4,
    "B": (30,) * 4,
    "C": (21,) * 4,
    "D": (17,) * 4,
    "E": (7, 12, 15, 16),
    "F": (6, 9, 12, 12),
    "G": (12, 13, 12, 13),
    "H": (7, 10, 12, 13),
    "S": (13, 16, 16, 17),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this bench."""
    parser.add_argument("--seeds", type=int, default=4, help="weeks that are played")
    parser.add_argument("--tries", type=int, default=24, help="exchanges tried for every fixed layout of sessions")
    parser.add_argument("--policies", default="".join(POLICIES), help="which, by letter")
    parser.add_argument("--duties", type=float, nargs="+", default=DUTIES, help="shares of time with a busy GPU")
    parser.add_argument("--results", type=Path, default=Path("artefacts/sharing.json"), help="kept, and taken up again")
    parser.add_argument("--picture", type=Path, default=None, help="draw the result there")


Result = dict[str, float]


def measure(options: argparse.Namespace) -> Measurement:
    """Run the bench."""
    results: dict[str, Result] = {}
    if options.results.exists():
        results = json.loads(options.results.read_text())
    chosen = [POLICIES[name] for name in options.policies]
    for duty in options.duties:
        traces = [trace(seed, duty) for seed in range(1, options.seeds + 1)]
        for policy in chosen:
            key = f"{policy.name} {duty if policy.leased else 'any'} {options.seeds}"
            if key in results:
                continue
            guess = GUESS[policy.name][min(range(4), key=lambda index: abs(DUTIES[index] - duty))]
            tries = options.tries // 4 if policy.leased else options.tries
            print(f"policy {policy.name}, duty {duty}", flush=True)
            fewest, strict = needed(policy, traces, guess, tries)
            results[key] = told(*fewest) | {f"strict_{name}": value for name, value in told(*strict).items()}
            options.results.parent.mkdir(exist_ok=True)
            options.results.write_text(json.dumps(results, indent=1))
    shown = {
        (policy.name, duty): results[f"{policy.name} {duty if policy.leased else 'any'} {options.seeds}"]
        for policy in chosen
        for duty in options.duties
    }
    if options.picture is not None:
        from bench import sharing_picture

        sharing_picture.draw(shown, chosen, options.duties, options.picture)
    return table(shown, chosen, options)


def told(cards: int, tally: Tally) -> Result:
    """What is kept of a result."""
    return {
        "gpus": cards,
        "in_time": tally.in_time / tally.asked,
        "gave_up": tally.gave_up / tally.asked,
        "losses": tally.losses,
        "restores": tally.restores,
        "starts": tally.starts_in_time / tally.starts,
        "asked": tally.asked,
    }


def table(shown: dict[tuple[str, float], Result], chosen: Sequence[Policy], options: argparse.Namespace) -> Measurement:
    """GPUs needed by policy and duty, and states lost per session that registered no checkpoint."""
    rows = []
    figures: dict[str, Figure] = {}
    for policy in chosen:
        cells = []
        for duty in options.duties:
            result = shown[policy.name, duty]
            figures[f"gpus_needed_{policy.name}_{duty}"] = int(result["gpus"])
            figures[f"gpus_needed_strict_{policy.name}_{duty}"] = int(result["strict_gpus"])
            figures[f"losses_per_session_{policy.name}_{duty}"] = round(result["losses"], 3)
            figures[f"restores_per_session_{policy.name}_{duty}"] = round(result["restores"], 3)
            more = f" / {result['strict_gpus']:.0f} ({result['losses']:.2f})" if policy.leased else ""
            cells.append(f"{result['gpus']:.0f}{more}")
        rows.append((f"{policy.name} {policy.title}", *cells))
    remarks = [
        (
            "GPUs needed / for the starts too (states lost per session without a checkpoint), "
            f"{options.seeds} weeks together."
        ),
        "Of sessions that registered a checkpoint none is lost: theirs are restored.",
        pays(shown, options.duties),
    ]
    return Measurement(("GPUs, by duty", *(f"{duty:.2f}" for duty in options.duties)), rows, figures, remarks)


def pays(shown: dict[tuple[str, float], Result], duties: Sequence[float]) -> str:
    """From which duty on leases need no fewer GPUs than slices that are made on demand and held for a session."""
    said = []
    for name in ("G", "H"):
        if (name, duties[0]) in shown and ("D", duties[0]) in shown:
            worse = [duty for duty in duties if shown[name, duty]["strict_gpus"] >= shown["D", duty]["gpus"]]
            said.append(f"{name} from a duty of {min(worse)} on" if worse else f"{name} at none of these duties")
    return f"Leases stop to pay (against D, starts alone too): {', '.join(said)}." if said else ""
