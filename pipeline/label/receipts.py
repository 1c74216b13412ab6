"""The driver's book: takes results as they come and commits receipts to the manifest now and then."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from hmsa_label.pipeline.engine.events import (
    Committed,
    Event,
    FailuresKnown,
    ImageFailed,
    ImageLabeled,
    RunEnded,
    RunStarted,
)
from hmsa_label.pipeline.engine.retry import ATTEMPTS, with_retries
from hmsa_label.pipeline.errors import EngineError
from hmsa_label.pipeline.label.failures import FailurePolicy
from hmsa_label.pipeline.records import Failure, NetworkFailure
from hmsa_label.stores.files import public_uri
from hmsa_label.stores.format.receipt import Receipt
from hmsa_label.stores.runs.writer import RunWriter

COMMIT_IMAGES = 256
COMMIT_SECONDS = 30.0
HOPELESS_FAILURES = 100
# Images with NaN or infinite logits that end a run, if they are also more than this share of those labeled so far.
NETWORK_FAILURES, NETWORK_SHARE = 3, 0.1


class ReceiptCommitter:
    """Receipts and failures of one attempt at a run.

    Attributes:
        total: images of the run; done_before: those with a receipt before this attempt.
        labeled: images with a receipt of this attempt; labelled_elsewhere: by other drivers meanwhile.
        failures: those given up, `not_retried` of them because they failed before.
        seconds: time spent labeling; interrupted: whether images are left over. Both set at the end.
    """

    def __init__(
        self,
        run: RunWriter,
        on_event: Callable[[Event], None],
        policy: FailurePolicy,
        *,
        total: int,
        done_before: int,
    ) -> None:
        self.total = total
        self.done_before = done_before
        self.labeled = self.labelled_elsewhere = 0
        self.failures: list[Failure] = []
        self.not_retried = 0
        self.seconds = 0.0
        self.interrupted = False
        self._run = run
        self._policy = policy
        self._on_event = on_event
        self._began = self._pending_since = time.monotonic()
        self._pending: list[Receipt] = []

    def begin(self, known: Sequence[Failure] = ()) -> None:
        """Starts the clock, tells what there is to do, and books failures of earlier attempts that still hold."""
        self._began = time.monotonic()
        self._on_event(
            RunStarted(
                store=public_uri(self._run.root.uri),
                run_id=self._run.run_id,
                images_total=self.total,
                images_done_before=self.done_before,
            )
        )

        if known:
            self.failures += known
            self.not_retried = len(known)
            self._on_event(FailuresKnown(failures=known))

    def take(self, result: Receipt | Failure) -> None:
        """Books one result; commits if enough of them wait.

        Raises:
            EngineError: if more images failed than the user allows; or the first hundred: then it is not the images;
                or if the network gives NaN again and again.
            StoreConflict: if the store was changed by others in a way that ends this run.
        """
        if isinstance(result, Failure):
            self._give_up(result)
            return
        if not self._pending:
            self._pending_since = time.monotonic()
        self._pending.append(result)
        self.labeled += 1
        self._on_event(ImageLabeled(key=result.key, kept_share=result.kept_share, seconds=result.seconds or 0.0))
        self.commit_if_due()

    def commit_if_due(self) -> None:
        """Commits after 256 receipts or 30 s, whichever is first."""
        waited = time.monotonic() - self._pending_since
        if len(self._pending) >= COMMIT_IMAGES or (self._pending and waited >= COMMIT_SECONDS):
            self.commit()

    def commit(self, attempts: int = ATTEMPTS) -> None:
        """Commits what waits."""
        if self._pending:
            version = with_retries("committing receipts", lambda: self._run.append(self._pending), attempts)
            self._on_event(Committed(version=version, images=len(self._pending)))
            self._pending = []

    def finish(self, *, interrupted: bool, attempts: int = ATTEMPTS) -> int:
        """Commits what waits and ends the attempt; the version that holds its work.

        Args:
            attempts: the most tries at a storage that fails.
        """
        self.commit(attempts)
        self.interrupted, self.seconds = interrupted, time.monotonic() - self._began
        failures = [asdict(failure) for failure in self.failures]
        version = with_retries(
            "ending the run", lambda: self._run.finish(failures, self.seconds, interrupted), attempts
        )
        self._on_event(
            RunEnded(images_labelled=self.labeled, images_failed=len(self.failures), interrupted=interrupted)
        )
        return version

    def _give_up(self, failure: Failure) -> None:
        self.failures.append(failure)
        self._on_event(ImageFailed(failure=failure))
        self._policy.check(self.failures)
        self._check_network(NETWORK_FAILURES)
        self._check_hope()

    def check_end(self) -> None:
        """Looks back at an attempt that has come to its end.

        Raises:
            EngineError: if the network gave no usable logits for any image.
        """
        if not self.labeled and not self.done_before:
            self._check_network(1)

    def _check_network(self, at_least: int) -> None:
        """A network that fails on image after image would only mark them all as failed, one by one."""
        failed = [failure for failure in self.failures if isinstance(failure, NetworkFailure)]
        labeled = self.labeled + self.done_before
        if len(failed) >= at_least and len(failed) > NETWORK_SHARE * labeled:
            raise EngineError(
                f"the teacher failed on {len(failed)} images, {labeled} are labeled. {failed[0].key}: "
                f"{failed[0].reason}. What is finished is kept"
            )

    def _check_hope(self) -> None:
        tried = self.failures[self.not_retried :]
        if len(tried) >= HOPELESS_FAILURES and not self.labeled and not self.done_before:
            first = tried[0]
            raise EngineError(
                f"the first {len(tried)} images all failed, {first.key} with: {first.reason}. "
                "Is the data root complete, and are these 8-bit PNG or JPEG files?"
            )
