"""One bag from its opening to a full result folder; an interrupted one leaves what is done, marked as partial."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from cross_view_loc import __version__
from cross_view_loc.bags import journal as journals
from cross_view_loc.bags.journal import Journal
from cross_view_loc.bags.offline import OfflineRun, open_run
from cross_view_loc.bags.output_bag import write_output_bag
from cross_view_loc.bags.reader import BagTopics
from cross_view_loc.bags.results import (
    FrameRecord,
    grouped,
    reasons,
    result_folder,
    resumed_folder,
    write_json,
    write_results,
)
from cross_view_loc.bags.runner import BagRunner, read_truth
from cross_view_loc.bags.topics import topics_text
from cross_view_loc.errors import InputError
from cross_view_loc.evaluation.runs import depth_served, run_row
from cross_view_loc.geometry.transforms import Matrix
from cross_view_loc.inputs.stamps import Timeline
from cross_view_loc.settings import Settings, parameter_file_text

if TYPE_CHECKING:
    from cross_view_loc.localizer import Localizer

REPORT = "report.html"
OUTPUT_BAG = "estimates_bag"
TOO_MANY = 1 / 3
"""A larger share of the images without an estimate is a failure: swapped stamps already cost every second one."""


@dataclass(frozen=True)
class Done:
    """What a run left."""

    folder: Path
    summary: dict[str, Any]
    partial: str = ""
    """Why it did not reach the end; empty when it did."""
    exit_status: int = 0
    failures: tuple[str, ...] = ()
    """Why it is no success although it reached the end: one sentence each."""


@dataclass(frozen=True)
class Progress:
    """Where a run says how far it is: how many images there will be, then one at a time."""

    expect: Callable[[int], None]
    advance: Callable[[], None]


def run_bag(
    bag: Path, options: argparse.Namespace, progress: Progress | None = None, folder: Path | None = None
) -> Done:
    """Localize one bag by the command's options and write its results into `folder`, or where the options say.

    The networks have as many threads as in the node: with others, sums round differently. Ctrl-C and a bag that is
    damaged half-way end it early: what is done is written and the journal kept. Raises InputError, MapError or
    ModelError when nothing can be done at all.
    """
    configured = Settings.from_yaml(options.config) if options.config else None
    show = show_topics if progress is None else lambda topics: None
    with open_run(bag, options.map, configured, show) as offline:
        span = offline.span(options.start, options.duration)
        where = _folder(options.resume, options.out) if folder is None else _folder_among(options.resume, folder)
        localizer = offline.localizer()
        with _journal(where, offline, options, localizer) as journal:
            runner = offline.runner(journal.locate, options.stride)
            started = time.perf_counter()
            records, partial, status = localized(runner, span, progress)
            seconds = time.perf_counter() - started
            records = [_first_timed(record, journal) for record in records]
        truth, no_truth, unread = _truth(offline)
        failures = tuple(sentence for sentence in (shortfall(records), unread) if sentence)
        summary = _summary(offline, runner, records, truth, where, seconds, depth_served(localizer)) | {
            "partial": partial or False,
            "no_truth": no_truth,
            "failures": list(failures),
        }
        _write(where, offline, records, summary)
        from cross_view_loc.report.write import write_report  # after the bag: pictures of a few images

        write_report(
            where, offline, localizer.locate, records, summary["results"][0], truth, offline.topics.truth, no_truth,
            partial, summary["assumptions"],
        )  # fmt: skip
        if not partial:
            (where / journals.FILE_NAME).unlink(missing_ok=True)
    return Done(where, summary, partial, status or int(bool(failures)), failures)


def shortfall(records: list[FrameRecord]) -> str:
    """Why so little came of the images that the run is no success, in one sentence; empty when enough did.

    No accepted pose is nothing that could be used, and more than a third of the images without an estimate is much of
    the drive lost, to missing imagery, inputs or stamps. Images that the method refused are its honest answer.
    """
    skipped = [record.reason for record in records if record.estimate is None]
    if not any(record.status == "accepted" for record in records):
        what, lost = f"none of the {len(records)} images gave an accepted pose", [record.reason for record in records]
    elif len(skipped) > TOO_MANY * len(records):
        what, lost = f"{len(skipped)} of {len(records)} images gave no estimate", skipped
    else:
        return ""
    reason, count = grouped(Counter(lost)).most_common(1)[0]
    return f"{what} ({count} times: {reason}); `cross_view_loc doctor` with this bag and map says what to set"


def show_topics(topics: BagTopics) -> None:
    """Which topics were taken and what else there is, for people, on standard error."""
    print(topics_text(dataclasses.asdict(topics)), file=sys.stderr)


def localized(
    runner: BagRunner, span: tuple[int, int], progress: Progress | None = None
) -> tuple[list[FrameRecord], str, int]:
    """Records, why they end early (empty when they do not), and the exit status."""
    records: list[FrameRecord] = []
    count = runner.image_count(*span)
    with tqdm(total=count, unit="image", file=sys.stderr, disable=True if progress else None) as bar:
        if progress:
            progress.expect(count)

        def take(record: FrameRecord) -> None:
            records.append(record)
            bar.update(1)
            if progress:
                progress.advance()

        try:
            runner.run(*span, take)
        except KeyboardInterrupt:
            if not _has_estimate(records):
                raise
            return records, f"interrupted after {len(records)} of about {count} images", 130
        except InputError as error:
            if not _has_estimate(records):
                raise
            return records, str(error), 1
    return records, "", 0


def _has_estimate(records: list[FrameRecord]) -> bool:
    return any(record.estimate is not None for record in records)


@contextmanager
def _journal(folder: Path, offline: OfflineRun, options: argparse.Namespace, localizer: Localizer) -> Iterator[Journal]:
    """Kept while there is something to go on from; a folder without results does not stay."""
    from cross_view_loc.report.write import weights_text

    about = {
        "version": __version__,
        "bag": [str(offline.bag.path.resolve()), offline.bag.start_ns, offline.bag.end_ns],
        "configuration": parameter_file_text(offline.settings),
        "weights": weights_text(offline.settings, getattr(localizer, "depth_name", "")),
        "--start, --duration or --stride": [options.start, options.duration, options.stride],
    }
    journal = Journal(folder / journals.FILE_NAME, about, localizer.locate, localizer.follow)
    try:
        yield journal
    except BaseException as error:
        nothing = isinstance(error, InputError) or not journal.written
        journal.close(done=nothing)
        with contextlib.suppress(OSError):  # it holds a journal or other files
            folder.rmdir()
        raise
    journal.close(done=False)


def _folder(resume: bool, out: Path | None) -> Path:
    if not resume:
        return result_folder(out)
    folder = resumed_folder(out)
    if (folder / "metrics.json").exists() and not (folder / journals.FILE_NAME).exists():
        raise InputError(f"the run in {folder} has reached its end; there is nothing to continue")
    return folder


def _folder_among(resume: bool, folder: Path) -> Path:
    """One of several bags' folders, whose run may not have begun when the others were interrupted."""
    return _folder(resume and folder.exists(), folder)


def _first_timed(record: FrameRecord, journal: Journal) -> FrameRecord:
    seconds = journal.seconds.get(record.stamp_ns)
    return record if seconds is None else dataclasses.replace(record, seconds=seconds)


def _truth(offline: OfflineRun) -> tuple[Timeline[Matrix] | None, str, str]:
    """The bag's truth, or why there is none; last the same again when it is there, but cannot be used."""
    if not offline.topics.truth:
        return None, "the bag has no topic that is called truth", ""
    if offline.origin_from == "first fix":  # truth is relative to its own origin, and nobody says which that is
        return None, f"{offline.topics.truth} counts from an origin that neither map nor configuration tells", ""
    try:
        return read_truth(offline.bag, offline.topics.truth, offline.settings.map_frame), "", ""
    except InputError as error:  # damaged, or in another frame; the estimates are worth keeping all the same
        reason = f"the truth cannot be read: {error}"
        return None, reason, reason


def _summary(
    offline: OfflineRun,
    runner: BagRunner,
    records: list[FrameRecord],
    truth: Timeline[Matrix] | None,
    folder: Path,
    seconds: float,
    depth: dict[str, str],
) -> dict[str, Any]:
    notice = depth.get("depth_notice", "")
    assumed = ({notice: len(records)} if notice else {}) | dict(grouped(runner.assumed).most_common())
    return {
        "results": [run_row(records, truth, offline.settings, bag=str(offline.bag.path), **depth)],
        "out": str(folder),
        "map_origin": {**dataclasses.asdict(offline.projection.origin), "from": offline.origin_from},
        "topics": dataclasses.asdict(offline.topics),
        "images": dict(Counter(record.status for record in records)),
        "reasons": dict(reasons(records).most_common()),
        "images_per_second": round(len(records) / max(seconds, 1e-9), 3),
        "unusable_messages": dict(grouped(runner.unusable).most_common()),
        "assumptions": assumed,
        "unreadable_messages": offline.bag.unreadable,
        "map_problems": list(offline.source.problems),
    }


def _write(folder: Path, offline: OfflineRun, records: list[FrameRecord], summary: dict[str, Any]) -> None:
    write_results(folder, records, offline.projection)
    text = parameter_file_text(offline.settings, f"What `cross_view_loc run {offline.bag.path}` used.")
    (folder / "localizer.yaml").write_text(text, encoding="utf-8")
    write_output_bag(folder / OUTPUT_BAG, records, offline.projection, offline.settings)
    write_json(folder / "metrics.json", summary)
