"""Several bags at once: as many processes as keep the cores busy, a folder for each bag, one bar for all."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from cross_view_loc.bags.results import refuse_full_folder, result_folder, resumed_folder, without_nan
from cross_view_loc.bags.topics import topics_text
from cross_view_loc.commands.run_one import Done, Progress, run_bag
from cross_view_loc.errors import CrossViewError, InputError
from cross_view_loc.settings import Settings

Counters = tuple[Any, Any]
"""Images expected and images done, shared between the processes."""
_counters: Counters | None = None


def run_many(options: argparse.Namespace) -> int:
    """Run every bag of the command; one that fails does not stop the others. The exit status is the worst of them."""
    options.bags = list({bag.resolve(): bag for bag in options.bags}.values())  # one named twice runs once
    missing = [bag for bag in options.bags if not bag.exists()]
    if missing:
        raise InputError(f"there is no bag at {missing[0]}; nothing was started")
    if options.resume:
        base = resumed_folder(options.out)
    else:
        refuse_full_folder(options.out)
        base = result_folder(options.out)
    context = multiprocessing.get_context("spawn")  # torch and threads do not survive a fork
    counters = context.Value("q", 0), context.Value("q", 0)
    workers = min(len(options.bags), _workers(options))
    results: dict[Path, Done | str] = {}
    started = time.perf_counter()
    with (
        ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(counters,)) as pool,
        tqdm(unit="image", file=sys.stderr, disable=None) as bar,
    ):
        futures: dict[Future[Done | str], Path] = {
            pool.submit(_run, bag, options, folder): bag
            for bag, folder in zip(options.bags, _folders(base, options.bags), strict=True)
        }
        try:
            _follow(futures, counters, bar, results, sys.stderr if options.json else sys.stdout)
        except KeyboardInterrupt:  # the workers have it too, and write what they have
            pool.shutdown(wait=True, cancel_futures=True)
            for future, bag in futures.items():
                if bag not in results:
                    results[bag] = _result(future)
                    print(_line(bag, results[bag]), file=sys.stderr)
    seconds = time.perf_counter() - started
    return _tell(options, results, seconds, base)


def _workers(options: argparse.Namespace) -> int:
    """As many as keep all cores busy with the threads that each takes."""
    cores = os.cpu_count() or 1
    threads = Settings.from_yaml(options.config).threads if options.config else 0
    return max(1, cores // (threads or max(1, cores // 2)))


def _follow(
    futures: dict[Future[Done | str], Path],
    counters: Counters,
    bar: Any,
    results: dict[Path, Done | str],
    to: TextIO,
) -> None:
    waiting = set(futures)
    while waiting:
        finished, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        expected, done = (counter.value for counter in counters)
        bar.total = expected or None
        bar.update(done - bar.n)
        for future in finished:
            bag = futures[future]
            results[bag] = _result(future)
            bar.write(_line(bag, results[bag]), file=to)
            if isinstance(result := results[bag], Done):
                bar.write(topics_text(result.summary["topics"]), file=sys.stderr)


def _result(future: Future[Done | str]) -> Done | str:
    if future.cancelled():
        return "interrupted before it began"
    try:
        return future.result()
    except BrokenProcessPool:
        return "its process was ended, perhaps for want of memory; run fewer bags at a time"
    except KeyboardInterrupt:
        return "interrupted before its first estimate"


def _start_worker(counters: Counters) -> None:
    global _counters
    _counters = counters


def _run(bag: Path, options: argparse.Namespace, folder: Path) -> Done | str:
    """In a worker: the result, or in one sentence why there is none."""
    assert _counters is not None
    expected, done = _counters

    def add(counter: Any, count: int) -> None:
        with counter.get_lock():
            counter.value += count

    progress = Progress(lambda count: add(expected, count), lambda: add(done, 1))
    try:
        return run_bag(bag, options, progress, folder)
    except (CrossViewError, OSError) as error:
        return str(error)
    except KeyboardInterrupt:
        return "interrupted before its first estimate"


def _folders(base: Path, bags: list[Path]) -> list[Path]:
    """A folder named after each bag; the second of a name gets a number."""
    folders: list[Path] = []
    for bag in bags:
        own = bag.resolve()
        name = own.parent.name if own.name == "bag" else own.stem
        candidates = (base / (f"{name}-{number}" if number else name) for number in range(len(bags)))
        folders.append(next(path for path in candidates if path not in folders))
    return folders


def _line(bag: Path, result: Done | str) -> str:
    if isinstance(result, str):
        return f"{bag}: failed: {result}"
    counts, row = result.summary["images"], result.summary["results"][0]
    error = row["accepted_position_median_m"]
    told = "" if error is None else f", median error {error:.2f} m"
    partial = "".join(f"; failed: {failure}" for failure in result.failures)
    if result.partial:
        partial = f"; partial: {result.partial}{partial}"
    return (
        f"{bag}: {sum(counts.values())} images at {result.summary['images_per_second']:.1f} a second, "
        f"{counts.get('accepted', 0)} accepted{told}; {result.folder}{partial}"
    )


def _tell(options: argparse.Namespace, results: dict[Path, Done | str], seconds: float, base: Path) -> int:
    results = {bag: results[bag] for bag in options.bags}  # as given, whichever was ready first
    done = [result for result in results.values() if isinstance(result, Done)]
    if options.json:
        rows = {
            str(bag): {"error": result} if isinstance(result, str) else result.summary
            for bag, result in results.items()
        }
        print(json.dumps(without_nan({"bags": rows})))
    else:
        images = sum(sum(result.summary["images"].values()) for result in done)
        print(f"{images} images of {len(done)} bags in {seconds:.0f} s: {images / seconds:.1f} a second; {base}")
    statuses = [result.exit_status if isinstance(result, Done) else 1 for result in results.values()]
    return 130 if 130 in statuses else max(statuses)
