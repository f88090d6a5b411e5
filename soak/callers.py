"""Callers of a soak: they send what is planned, leave when it is planned, and judge every answer they stay for."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from soak.judged import judge
from soak.plan import Abort, Fault, Plan, fault_of, plan_of
from soak.talk import Connection, LeftError, UnfinishedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Callers", "Tally"]

_LONGEST_WAIT = 0.06
_MOST_READ = 6_000
_EXAMPLES = 5


@dataclass(slots=True)
class Tally:
    """What the callers saw.

    Attributes:
        requests: begun.
        endings: answers by how they ended.
        aborts: callers who left, by when.
        wrongs: broken promises by what they are.
        examples: the first few of them, with the request's number.
        sent: request -> regions its trace says it was sent to; only of answers that were read whole.
        unseen: request -> those of them that may not have read it.
    """

    requests: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    aborts: Counter[str] = field(default_factory=Counter)
    wrongs: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    sent: dict[int, tuple[str, ...]] = field(default_factory=dict)
    unseen: dict[int, frozenset[str]] = field(default_factory=dict)

    def wrong(self, what: str, number: int, detail: str = "") -> None:
        """Note a broken promise."""
        self.wrongs[what] += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"request {number}: {what}{detail}")


class Callers:
    """So many callers, each with one request at a time on a connection it keeps.

    Args:
        port: the gateway's.
        seed: of the plan.
        abort_share: share of callers who leave.
        concurrency: how many at once.

    Attributes:
        tally: what they saw so far.
    """

    def __init__(self, port: int, *, seed: int, abort_share: float, concurrency: int) -> None:
        self.tally = Tally()
        self._port = port
        self._seed = seed
        self._abort_share = abort_share
        self._concurrency = concurrency

    async def run(self, numbers: Iterator[int]) -> None:
        """Send the requests with these numbers; when this returns none is under way and every connection is closed."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._calls(numbers))

    async def _calls(self, numbers: Iterator[int]) -> None:
        connection: Connection | None = None
        for number in numbers:
            if connection is None or not connection.usable:
                connection = await Connection.open(self._port)
            self.tally.requests += 1
            plan = plan_of(self._seed, number, abort_share=self._abort_share)
            try:
                await self._exchange(plan, connection)
            except UnfinishedError as error:
                self.tally.wrong(str(error), number)
                connection.leave(resets=False)
            except ConnectionError:
                self.tally.wrong("the connection broke while the request was sent", number)
                connection.leave(resets=False)
        if connection is not None:
            connection.leave(resets=False)

    async def _exchange(self, plan: Plan, connection: Connection) -> None:
        if plan.abort is Abort.BODY:
            await connection.send(plan.body, upto=plan.instant)
            self._leave(plan, connection, Abort.BODY)
            return
        await connection.send(plan.body)
        if plan.abort is Abort.WAITING:
            await asyncio.sleep(plan.instant * _LONGEST_WAIT)
            self._leave(plan, connection, Abort.WAITING)
            return
        leave_after = int(plan.instant**2 * _MOST_READ) if plan.abort is Abort.WITHIN else None
        try:
            answer = await connection.answer(leave_after=leave_after)
        except LeftError:
            self._leave(plan, connection, Abort.WITHIN)
            return
        verdict = judge(plan, answer)
        self.tally.endings[verdict.ending] += 1
        for wrong in verdict.wrongs:
            self.tally.wrong(wrong, plan.number)
        if verdict.sent is not None:
            self.tally.sent[plan.number] = tuple(verdict.sent)
        if verdict.unseen:
            self.tally.unseen[plan.number] = verdict.unseen
        if plan.abort is not None:  # one that wanted to leave within a shorter answer leaves at its end
            self._leave(plan, connection, Abort.END)

    def _leave(self, plan: Plan, connection: Connection, when: Abort) -> None:
        self.tally.aborts[when] += 1
        connection.leave(resets=plan.resets)

    def compare(self, seen: Mapping[str, Mapping[str, int]]) -> None:
        """Hold the traces against the regions' own record: region -> request -> times it came; a pin never leaks."""
        came: dict[int, Counter[str]] = {}
        for region, times in seen.items():
            for written, count in times.items():
                came.setdefault(int(written), Counter())[region] = count
        for number, regions in came.items():
            plan = plan_of(self._seed, number, abort_share=self._abort_share)
            if not set(regions) <= plan.allowed:
                self.tally.wrong("came to a region where it may not go", number)
        for number, told in self.tally.sent.items():
            arrived = came.get(number, Counter())
            if not self._agree(number, Counter(told), arrived):
                detail = f": {', '.join(told)}; they got {dict(arrived)}"
                self.tally.wrong("the trace tells of other attempts than the regions", number, detail)

    def _agree(self, number: int, told: Counter[str], came: Counter[str]) -> bool:
        """Whether they agree.

        After a 400 to an option of ours the same attempt may have sent once more without it. A region that gave no
        answer may not have read the request: it came too late, or on a connection it had just closed.
        """
        for region in {*told, *came}:
            resent = fault_of(self._seed, number, region) is Fault.CALLER_ERROR
            unseen = region in self.tally.unseen.get(number, ())
            if not told[region] - unseen <= came[region] <= told[region] + resent:
                return False
        return True
