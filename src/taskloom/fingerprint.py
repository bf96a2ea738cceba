"""What a run is made of beside its run file, as digests: told when it is taken up, so that nothing changes unseen.

fingerprint.jsonl holds one line for the run's beginning and one for each time that it went on with something changed;
the last line is what the run is made of now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from taskloom.balance import BALANCES
from taskloom.data.cache_key import canonical, source_digests, tokenizer_digest
from taskloom.environment import version_of
from taskloom.errors import Fault, RunFolderError
from taskloom.metrics import METRICS
from taskloom.mitigation import MITIGATIONS
from taskloom.mixture import MIXTURES
from taskloom.model.identity import backbone_identity
from taskloom.model.sharing import SHARINGS
from taskloom.policy import POLICIES
from taskloom.record import VERSION, append_line, read_lines
from taskloom.room import shown
from taskloom.tasks import TASKS
from taskloom.teaching.distillation import teachers_of
from taskloom.training.checkpoints import last_checkpoint
from taskloom.types import Row

if TYPE_CHECKING:
    from taskloom.config import Config
    from taskloom.preparation import Prepared
    from taskloom.record import Record

PACKAGES = ("taskloom", "torch", "transformers", "peft", "tokenizers", "accelerate", "torchjd", "numpy")
"""Whose versions a run's bytes depend on: numpy draws the rows, torchjd weighs the tasks."""

Fingerprint = dict[str, Any]
"""``tasks`` (rows of each split, what was learned from them), ``tokenizer``, ``backbone``, ``packages``, ``code``."""


@dataclass(frozen=True)
class Change:
    """One thing that a run began with and no longer finds.

    Attributes:
        where: the key of the run file, or the package.
        requirement: what it was, as the words after "should".
        found: what it is now.
    """

    where: str
    requirement: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}"

    @property
    def fault(self) -> Fault:
        """The same as a sentence."""
        return Fault(self.where, self.requirement, self.found)


def fingerprint_of(prepared: Prepared) -> Fingerprint:
    """Digest what a run is made of beside its run file.

    Rows are those that are used: after columns were mapped, splits made and limits applied, in their order.

    Raises:
        ModelError: the backbone cannot be found.
    """
    tasks = {}
    for name, corpus in prepared.corpora.items():
        splits = {split: rows_digest(rows) for split, rows in corpus.splits.items()}
        learned = sha256(canonical(prepared.tasks[name].state())).hexdigest()
        tasks[name] = {"splits": splits, "learned": learned}
    return {
        "tasks": tasks,
        "tokenizer": tokenizer_digest(prepared.tokenizer),
        "backbone": backbone_identity(prepared.config.model),
        "packages": {package: version_of(package) for package in PACKAGES},
        "code": _own_code(prepared.config),
        "teachers": {name: each.digest() for name, each in teachers_of(prepared.config, prepared.tasks).items()},
    }


def rows_digest(rows: Sequence[Row]) -> dict[str, Any]:
    """Give the number of rows, a digest of them in their order, and one that no order changes."""
    ordered, total = sha256(), 0
    for row in rows:
        digest = sha256(canonical(row)).digest()
        ordered.update(digest)
        total += int.from_bytes(digest)
    return {"rows": len(rows), "ordered": ordered.hexdigest(), "unordered": f"{total % 2**256:064x}"}


def _own_code(config: Config) -> dict[str, str]:
    """Digest the user's own methods, which no version of a package names: key of the run file -> digest."""
    methods: list[tuple[str, str, Any]] = [
        (f"tasks.{name}.type", section.type, TASKS) for name, section in config.tasks.items()
    ]
    methods.append(("mixture.strategy", str(config.mixture.get("strategy", "")), MIXTURES))
    methods.append(("balance.method", str(config.balance.get("method", "")), BALANCES))
    for name, section in config.tasks.items():
        methods += [(f"tasks.{name}.metrics.{shown(metric)}", metric, METRICS) for metric in section.metrics]
        if section.fairness:
            methods.append((f"tasks.{name}.fairness.method", str(section.fairness["method"]), MITIGATIONS))
    methods += [(f"policies.{place}", str(policy["name"]), POLICIES) for place, policy in enumerate(config.policies)]
    if config.model.sharing:
        methods.append(("model.sharing.scheme", str(config.model.sharing["scheme"]), SHARINGS))
    code = {}
    for where, method, room in methods:
        sources = source_digests(room.load(method), without="taskloom") if ":" in method else None
        if sources:
            code[where] = sha256(canonical(sources)).hexdigest()
    return code


# --- comparing ----------------------------------------------------------------------------------------------------


def changes_since(record: Record, now: Fingerprint) -> list[Change]:
    """Say what a run no longer finds as it was when it began, or when it last went on with changes.

    Raises:
        RunFolderError: what the folder says of it is of another version, or cannot be read.
    """
    lines = list(read_lines(record.fingerprint_jsonl))
    if not lines:
        if not any(record.checkpoints.glob("checkpoint-*")):
            return []  # killed before anything was made of it
        found = "no line that does, so that nobody can tell whether data, tokenizer and packages are the same"
        return [Change(record.fingerprint_jsonl.name, "say what the run began with", found)]
    before = lines[-1]
    return [
        *_in_tasks(before["tasks"], now["tasks"]),
        *_in_tokenizer(before["tokenizer"], now["tokenizer"]),
        *_in_backbone(before["backbone"], now["backbone"]),
        *_in_packages(before["packages"], now["packages"]),
        *_in_code(before["code"], now["code"]),
        *_in_teachers(before.get("teachers", {}), now["teachers"]),
    ]


def refuse(folder: str, changes: Sequence[Change]) -> RunFolderError:
    """Make the error that names every change, and says how to go on."""
    count = f"{len(changes)} change{'s' * (len(changes) != 1)}"
    fix = "Bring back what changed, go on all the same by `--accept-changes`, or name another folder"
    head = Fault(f"--out {folder}", "go on with what the run began with", count, fix)
    return RunFolderError(head, *(change.fault for change in changes))


def note(record: Record, now: Fingerprint, changes: Sequence[Change]) -> None:
    """Write what the run is made of from here on, and what that changed after which step; nothing where it stands."""
    if record.fingerprint_jsonl.is_file() and not changes:
        return
    checkpoint = last_checkpoint(record.checkpoints)
    step = checkpoint.step if checkpoint else 0
    line = {"version": VERSION, "step": step, "changed": [str(change) for change in changes], **now}
    append_line(record.fingerprint_jsonl, line)


def _in_tasks(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    changes = []
    for name, task in now.items():
        where, was = f"tasks.{name}.data", before[name]
        splits = dict.fromkeys([*was["splits"], *task["splits"]])
        found = {split: _in_rows(split, was["splits"].get(split), task["splits"].get(split)) for split in splits}
        told = {split: words for split, words in found.items() if words}
        changes += [Change(where, f"give the {split} rows that the run began with", told[split]) for split in told]
        # Rows beyond `limit_rows` are not used, and yet teach the task its labels.
        if not told and task["learned"] != was["learned"]:
            changes.append(Change(where, "teach the labels or numbers that the run began with", "others"))
    return changes


def _in_rows(split: str, was: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    """Say how the rows of a split changed; nothing where they did not."""
    if was == now:
        return ""
    if not was or not now:
        return f"no {split} rows" if was else f"{split} rows where there were none"
    if was["rows"] != now["rows"]:
        return f"{now['rows']} {split} rows where there were {was['rows']}"
    if was["unordered"] == now["unordered"]:
        return f"the same {now['rows']} {split} rows in another order"
    return f"other {split} rows ({now['rows']}, as before)"


def _in_tokenizer(before: str, now: str) -> list[Change]:
    where, requirement = "model.name_or_path", "bring the tokenizer that the run began with"
    return [] if before == now else [Change(where, requirement, "another tokenizer")]


def _in_backbone(before: Mapping[str, str], now: Mapping[str, str]) -> list[Change]:
    changes = []
    for key in _unlike(before, now):
        if key == "commit" and key in before and key in now:
            requirement, found = f"stay at the commit `{before[key]}` of the hub", f"commit `{now[key]}`"
        else:
            requirement = f"bring the `{key}` that the run began with"
            found = f"no `{key}`" if key not in now else f"{'another' if key in before else 'a new'} `{key}`"
        changes.append(Change("model.name_or_path", requirement, found))
    return changes


def _in_packages(before: Mapping[str, str | None], now: Mapping[str, str | None]) -> list[Change]:
    requirement = "be of the version that the run began with"
    return [
        Change(package, requirement, f"{now.get(package) or 'none'} instead of {before.get(package) or 'none'}")
        for package in _unlike(before, now)
    ]


def _in_code(before: Mapping[str, str], now: Mapping[str, str]) -> list[Change]:
    requirement = "name a class with the source that the run began with"
    return [Change(where, requirement, "another source") for where in _unlike(before, now)]


def _in_teachers(before: Mapping[str, str], now: Mapping[str, str]) -> list[Change]:
    requirement = "name the teacher that the run began with"
    return [
        Change(f"tasks.{name}.distillation.teacher", requirement, "another model there")
        for name in _unlike(before, now)
    ]


def _unlike(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*before, *now]) if before.get(key) != now.get(key)]
