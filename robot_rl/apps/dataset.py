"""robot-rl dataset import | export | archive | restore | info | verify | repair | report | annotate | delete | gc |
relabel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_rl import conf
from robot_rl.apps import dataset_archive, dataset_edits, dataset_relabel
from robot_rl.apps.folders import dataset_folder
from robot_rl.apps.main import instantiate
from robot_rl.errors import ConfigError, StoreError, valid_choices


@dataclass
class Config:
    """Types of the keys in conf/dataset.yaml."""

    subcommand: str
    root: str
    name: str
    source: str | None
    target: str | None
    skip_invalid: bool
    worst: int
    return_random: float
    return_expert: float | None
    episode: Any
    success: bool | None
    exclude: bool | None
    split: str | None
    task: str | None
    note: str | None
    confirm: bool
    classifier: str | None
    session: str | None


def run(config: Any) -> None:
    """Run ``config.subcommand`` on dataset ``config.name`` below ``config.root``/data."""
    if config.subcommand not in SUBCOMMANDS:
        raise ConfigError(
            f"no subcommand '{config.subcommand}'", remedy=valid_choices(str(config.subcommand), SUBCOMMANDS)
        )
    SUBCOMMANDS[config.subcommand](config)


def import_dataset(config: Any) -> None:
    """Bring the recordings at ``source`` in; what is there already is skipped, so an interrupted import resumes."""
    from robot_rl.data.formats.transfer import import_recordings
    from robot_rl.data.store import EpisodeStore

    source = Path(_required(config, "source", "the file or folder to import"))
    form, folder = _format(config), _folder(config)
    foreign = form.read(source)
    store = EpisodeStore.open_or_create(folder, spec=foreign.spec, name=config.name)
    try:
        with _progress(f"import {source.name}", len(foreign.recordings)) as advance:
            summary = import_recordings(store, foreign, advance, skip_invalid=config.skip_invalid)
    except KeyboardInterrupt:
        print(f"{len(store.ids())} of {len(foreign.recordings)} episodes are safe in {folder}; run again to continue")
        raise
    print(f"{summary.imported} episodes, {summary.steps} steps imported into {folder}")
    if summary.skipped:
        print(f"{summary.skipped} episodes were there already and were left alone")
    for reason in summary.invalid:
        print(f"left out: {reason}")
    if foreign.dropped:
        print(f"not imported: {', '.join(foreign.dropped)}")


def export_dataset(config: Any) -> None:
    """Write the dataset in another layout to ``target``, whole or not at all."""
    from robot_rl.data.formats.transfer import stored_recordings

    target = Path(_required(config, "target", "where to export to"))
    form = _format(config)
    store = _open(config)
    with _progress(f"export {target.name}", len(store.ids())) as advance:
        left = form.write(stored_recordings(store, advance=advance), target)
    print(f"{len(store.ids())} episodes exported to {target}")
    print(f"not exported: {', '.join(left) or 'nothing was left behind'}")


def info(config: Any) -> None:
    """What a dataset holds; without a name, the datasets there are."""
    from rich.console import Console

    from robot_rl.data.quality_report import range_table, summary_table

    if not config.name:
        Console().print(_dataset_table(Path(config.root) / "data"))
        return
    quality = _quality(config)
    Console().print(summary_table(quality), range_table(quality.ranges))


def report(config: Any) -> None:
    """``info``, the episodes that stand out, and a plot and JSON in the run folder."""
    from rich.console import Console

    from robot_rl.data.quality_report import episode_table, range_table, summary_table, write_report

    quality = _quality(config)
    data, picture = write_report(quality, Path(config.root) / "runs" / f"report-{config.name}")
    console = Console()
    console.print(summary_table(quality), range_table(quality.ranges), episode_table(quality, config.worst))
    print(f"written: {data} and {picture}")


def verify(config: Any) -> None:
    """Check every checksum; raises StoreError with the number of findings after listing them."""
    store = _open(config)
    ids = store.ids(excluded=True)
    findings = dict.fromkeys(store.verify([]))
    with _progress(f"verify {config.name}", len(ids)) as advance:
        for id in ids:
            findings |= dict.fromkeys(store.verify([id]))
            advance()
    for finding in findings:
        print(f"{finding.file}: {finding.problem}")
    if findings:
        raise StoreError(
            f"{len(findings)} findings in dataset '{config.name}'",
            remedy=f"Run: robot-rl dataset repair name={config.name}",
        )
    print(f"{len(ids)} episodes are as they were written")


def repair(config: Any) -> None:
    """Finish what a crash interrupted: journals become episodes, temporary files go, the index is made anew.

    That goes for journals of actors, too, whose learner is no more. Raises StoreError while there is a learner.
    """
    from robot_rl.transport.inbox import Inbox

    store = _dataset_or_session(config, recover=False)
    done = store.repair()
    told = [f"recovered episode {item.id}, {item.length} steps" for item in done]
    if any((store.root / "journal").glob("*.remote")):
        inbox = Inbox(store)
        try:
            told += inbox.commit_orphans()
        finally:
            inbox.close()
    print("\n".join(told) or "nothing to recover")
    print(f"{len(store.ids())} episodes in {store.root}")


def _archive(config: Any) -> None:
    target = Path(_required(config, "target", "the folder of the archive"))
    dataset_archive.archive(_open(config), target, _progress)


def _restore(config: Any) -> None:
    source = Path(_required(config, "source", "the folder of the archive"))
    dataset_archive.restore(source, _folder(config), config.name, _progress)


def _relabel(config: Any) -> None:
    dataset_relabel.relabel(_dataset_or_session(config), config)


def _dataset_or_session(config: Any, *, recover: bool = True) -> Any:
    return dataset_relabel.session_store(config) if config.session else _open(config, recover=recover)


SUBCOMMANDS: dict[str, Callable[[Any], None]] = {
    "import": import_dataset,
    "export": export_dataset,
    "archive": _archive,
    "restore": _restore,
    "info": info,
    "report": report,
    "verify": verify,
    "repair": repair,
    "annotate": lambda config: dataset_edits.annotate(_open(config), config),
    "delete": lambda config: dataset_edits.delete(_open(config), config),
    "gc": lambda config: dataset_edits.gc(_open(config), config),
    "relabel": _relabel,
}


def _required(config: Any, key: str, what: str) -> str:
    value = config.get(key)
    if not value:
        raise ConfigError(f"dataset {config.subcommand} needs {key}= ({what})")
    return str(value)


def _folder(config: Any) -> Path:
    return dataset_folder(config.root, _required(config, "name", "the dataset's name"))


def _format(config: Any) -> Any:
    if config.get("format") is None:
        known = sorted(path.stem for path in Path(conf.__path__[0]).glob("format/*.yaml"))
        raise ConfigError(f"dataset {config.subcommand} needs format=", remedy=f"Valid: {', '.join(known)}")
    return instantiate(config.format)


def _open(config: Any, *, recover: bool = True) -> Any:
    from robot_rl.data.store import EpisodeStore

    folder = _folder(config)
    if not folder.exists():
        there = [path.name for path in folder.parent.glob("*/") if path.is_dir()]
        raise StoreError(f"no dataset '{config.name}' below {folder.parent}", remedy=valid_choices(config.name, there))
    return EpisodeStore.open(folder, recover=recover)


def _quality(config: Any) -> Any:
    from robot_rl.data.quality import dataset_quality

    store = _open(config)
    infos = store.infos()
    if not infos:
        raise StoreError(f"dataset '{config.name}' holds no episodes", remedy="Record or import some first")
    if store.spec is None:
        raise StoreError(
            f"dataset '{config.name}' does not say what its arrays are", remedy="Import it anew with a spec"
        )
    with _progress(f"read {config.name}", len(infos)) as advance:
        return dataset_quality(
            config.name,
            store.spec,
            ((store.read(item.id), item.success) for item in infos),
            return_random=config.return_random,
            return_expert=config.return_expert,
            advance=advance,
        )


def _dataset_table(folder: Path) -> Any:
    from rich.table import Table

    from robot_rl.data.store import EpisodeStore

    table = Table(title=f"datasets in {folder}", title_justify="left")
    for column in ("name", "robot", "task", "episodes", "steps"):
        table.add_column(column, justify="right" if column in ("episodes", "steps") else "left")
    for path in sorted(folder.glob("*/dataset.json")):
        try:
            store = EpisodeStore.open(path.parent, recover=False)
        except StoreError as error:  # one that cannot be opened does not hide the others
            table.add_row(path.parent.name, "cannot be opened", error.what.rpartition(": ")[2], "-", "-")
            continue
        robot, task = (store.spec.robot, store.spec.task) if store.spec else ("", "")
        infos = store.infos()
        table.add_row(path.parent.name, robot, task, str(len(infos)), str(sum(item.length for item in infos)))
    return table


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar; hands out the function that advances it by one."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)
