"""A manager and its programmers, all agent CLIs: `python examples/programmers.py "Build me a web shop."`.

Needs a fleet with this file's handlers and a worker for each programmer:

    fleetlog up --app examples.programmers:agent --workers 10

The manager asks the CLI to split the goal, gives the parts to as many programmers at once, and reports. While
it waits its worker is free for one of them. Without the Claude CLI, a stand-in plays it: start the fleet with
`CLAUDE_CLI_PATH=examples/mock_claude.py`, and begin the goal with `[mock:split]`.
"""
# ruff: noqa: T201 - a program for people prints

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import fleetlog
from fleetlog import Agent, Context, PermanentError, ask, call

agent = Agent()

PROGRAMMERS = 10
SPEED_UP = """
SELECT
    count(*) AS programmers,
    round(sum(epoch(ended_at) - epoch(claimed_at)), 2) AS seconds_of_work,
    round(epoch(max(ended_at)) - epoch(min(claimed_at)), 2) AS seconds_passed,
    round(seconds_of_work / seconds_passed, 1) AS speed_up
FROM attempts JOIN tasks USING (task_id)
WHERE barrier_id = '{barrier_id}'
"""


@agent.task(timeout="2h")
async def manage(ctx: Context, goal: str, programmers: int = PROGRAMMERS) -> dict[str, Any]:
    """Has the goal split, then every part worked on at once."""
    wish = (
        f"Split this goal into {programmers} parts that can be worked on at the same time, each a"
        f" sentence. Answer with a JSON array of strings and nothing else.\n\n{goal}"
    )
    [split] = await ctx.gather([ask(wish)])
    if not split.is_completed:
        raise PermanentError(f"nobody could split the goal: {split.error}")
    parts = read_parts(split.result)
    ctx.log(f"{len(parts)} parts")
    done = await ctx.gather([ask(part) for part in parts])
    return {"parts": len(done), "completed": sum(child.is_completed for child in done)}


def read_parts(answer: Any) -> list[str]:
    """The array in the CLI's answer; it may stand between other words."""
    text = answer["result"] if isinstance(answer, dict) else str(answer)
    begin, end = text.find("["), text.rfind("]")
    try:
        parts = json.loads(text[begin : end + 1])
    except ValueError:
        raise RuntimeError(f"this is no JSON array: {text[:200]}") from None
    return [str(part) for part in parts]


def main(goal: str) -> int:
    """Submits the goal, waits, and asks the log how much faster it went than one after the other."""
    with fleetlog.connect() as fleet:
        task = fleet.submit(call("manage", goal=goal))
        outcome = task.result()
    if not outcome.is_completed:
        print(f"{outcome.state}: {outcome.error}")
        return 1
    print(f"{outcome.result['completed']} of {outcome.result['parts']} parts are done")
    # The second call of ctx.gather is the barrier -g2.
    query = SPEED_UP.format(barrier_id=f"{task.task_id}-g2")
    return subprocess.run(["fleetlog", "sql", "--fresh", query], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
