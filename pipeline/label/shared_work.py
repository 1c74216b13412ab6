"""The images that are left of a run, claimed a few seconds' work at a time, so that several drivers can share them.

A driver that runs out of images waits for those that the others have claimed, and takes over what one leaves behind
that has died. So whoever is last finishes the run, and every driver ends with all of its images done.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict

from hmsa_label.pipeline.engine.events import Event, LabeledElsewhere
from hmsa_label.pipeline.engine.executor import Task
from hmsa_label.pipeline.engine.retry import with_retries
from hmsa_label.pipeline.label.receipts import ReceiptCommitter
from hmsa_label.pipeline.records import Failure
from hmsa_label.stores.images.source import ImageRef
from hmsa_label.stores.runs.claims import Claims
from hmsa_label.stores.runs.writer import RunWriter

CLAIM_SECONDS = 5.0  # claims that last shorter than this are doubled, those that last four times as long are halved
MOST_CLAIMED = 4096
SETTLE_SECONDS = 1.0  # between looks at what others have done


class SharedWork:
    """Hands out the tasks of one attempt at a run; `dispatch.py` asks for them.

    Attributes:
        left: images that are neither handed out nor known to be done, claimed by others or by nobody.
    """

    def __init__(
        self,
        claims: Claims,
        run: RunWriter,
        receipts: ReceiptCommitter,
        images: Iterable[ImageRef],
        on_event: Callable[[Event], None],
    ) -> None:
        self._claims, self._run, self._receipts, self._on_event = claims, run, receipts, on_event
        self._free = {image.key: image for image in images}
        self._size, self._claimed_at, self._settled_at = 1, 0.0, 0.0
        self._told, self._departed = 0, claims.departed

    @property
    def left(self) -> int:
        return len(self._free)

    def take(self, wanted: int) -> list[Task]:
        """Tasks that are now this driver's; none if all that is left is claimed by others.

        Args:
            wanted: how many could be begun at once; more are claimed where images take no time.
        """
        if self._claims.departed != self._departed:
            self._take_over()
        if not self._free:
            return []
        keys = with_retries("claiming images", lambda: self._claims.take(self._free, max(wanted, self._size)))
        if keys:
            self._adapt()
        elif time.monotonic() - self._settled_at >= SETTLE_SECONDS:
            self._settle()
            self._settled_at = time.monotonic()
        return [Task(image=self._free.pop(key), run_id=self._run.run_id) for key in keys]

    def keep_open(self) -> None:
        """Before an attempt ends early: a run that others are at stays theirs, even if nothing came of it here."""
        if with_retries("looking at the others", self._claims.others):
            self._run.resumed = True

    def _adapt(self) -> None:
        lasted = time.monotonic() - self._claimed_at
        if lasted < CLAIM_SECONDS:
            self._size = min(2 * self._size, MOST_CLAIMED)
        elif lasted > 4 * CLAIM_SECONDS:
            self._size = max(self._size // 2, 1)
        self._claimed_at = time.monotonic()

    def _settle(self) -> None:
        """Shows the others what is done here, and strikes out what they have done."""
        self._receipts.commit()
        # What failed in earlier attempts every driver knows by itself.
        failed = self._receipts.failures[self._receipts.not_retried :]
        with_retries("telling of failures", lambda: self._claims.give_up([asdict(f) for f in failed[self._told :]]))
        self._told = len(failed)
        with_retries("looking at the others", self._claims.others)
        if self._run.replaces:  # whose receipts are nowhere but beside the pixels
            with_retries("adopting receipts", self._run.adopt)
        self._strike_out()

    def _take_over(self) -> None:
        """What a driver that is gone had finished counts, before its other images are labeled here."""
        self._departed = self._claims.departed
        with_retries("adopting receipts", self._run.adopt)
        self._strike_out()

    def _strike_out(self) -> None:
        finished = with_retries("reading the store", self._run.done_keys) & self._free.keys()
        for key in finished:
            del self._free[key]
        if finished:
            self._receipts.labelled_elsewhere += len(finished)
            self._on_event(LabeledElsewhere(images=len(finished)))
        for key, failure in self._claims.given_up().items():
            if self._free.pop(key, None) is not None:
                names = Failure.__dataclass_fields__
                self._told += 1  # they know
                self._receipts.take(Failure(**{name: value for name, value in failure.items() if name in names}))
