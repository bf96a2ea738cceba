"""One more task on a finished run: its own parts are trained, and nothing else changes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console

from taskloom.environment import environment
from taskloom.errors import ConfigError, Fault, ModelError, RunFolderError, listed, nearest
from taskloom.fingerprint import Fingerprint, changes_since, fingerprint_of, note
from taskloom.gradients.ranks import world_size
from taskloom.growth import fisher, forgetting, proof, relatedness
from taskloom.growth.base import Base
from taskloom.growth.request import Fisher, Replay, Request, read_request
from taskloom.growth.scores import joined_scores
from taskloom.growth.training import GrowthSession, copy_parts, settle, shared_parameters
from taskloom.model import load_model
from taskloom.model.folder import add_own_adapter
from taskloom.model.multitask import unwrapped
from taskloom.preparation import InMemory, Prepared, prepare
from taskloom.record import VERSION, Record, read_note, write_json
from taskloom.run import Run, _existing, _fit, _identity
from taskloom.session import Session
from taskloom.tasks import TASKS, Task
from taskloom.training.arguments import training_arguments

AUTO = "auto"
"""What `init_from` says where the most related task is to be found."""

FILE = "growth.json"
"""What a grown folder was made of, beside what its run.yaml says."""


@dataclass
class _Growth:
    """A task that is being added.

    Attributes:
        base: the run.
        request: what is asked for.
        prepared: data of what is trained.
        whole: data of all tasks, where it is read.
        shared: names of the parameters that the run's tasks share.
        note: what the folder is made of.
        probes, before: rows of old tasks, and digests of their outputs; none where nothing is proved.
    """

    base: Base
    request: Request
    prepared: Prepared
    whole: Prepared | None
    shared: set[str]
    note: dict[str, Any]
    probes: dict[str, proof.Probe]
    before: dict[str, str]

    def write(self, record: Record, text: str, fingerprint: Fingerprint) -> None:
        """Write the files that say what the folder is."""
        record.write_run(text)
        write_json(record.folder / FILE, {"version": VERSION, **self.note})
        write_json(record.environment_json, environment(self.base.model.trained_parameters()))
        own = self.prepared.data_record()["tasks"]
        write_json(record.data_json, {"version": VERSION, "tasks": {**self.base.record.data(), **own}})
        record.checkpoints.mkdir(exist_ok=True)
        note(record, fingerprint, [])


def add_task(
    run: str | Path,
    task: Mapping[str, Any] | str | Path,
    out: str | Path | None = None,
    *,
    init_from: str | None = None,
    prove: bool = True,
    rows: InMemory | None = None,
    assignments: Sequence[str] = (),
    console: Console | None = None,
    callbacks: Sequence[transformers.TrainerCallback] = (),
) -> Run:
    """Train a further task on a finished run, in a folder of its own; called again, go on. Gives the new run.

    Args:
        run: the finished run's folder; it is only read.
        task: a YAML file or a mapping: `tasks` with one new task, and `training`, `own_adapter`, `gentle`, `data_root`.
        out: the new run folder; by default beside the run, named after both.
        init_from: a task of the run whose parts the new one begins with, or "auto" for the most related one.
        prove: whether old tasks' outputs are compared bit by bit, unless shared parts are trained on.
        rows: rows in memory, as `taskloom.train` takes them.
        assignments: ``a.b=value`` overrides of the file.
        console: where progress is shown; None for nowhere.
        callbacks: further `transformers.TrainerCallback`s.

    Raises:
        TaskloomError: what is wrong; nothing was written before everything had been checked.
        ChangedOutputsError: an old task's outputs changed; the model is not kept.
    """
    from taskloom.reports import report

    console, base = console or Console(quiet=True), Base.open(run)
    request = read_request(task, base.config, assignments, folder=str(run))
    _refuse(base, request, init_from)
    folder = Path(out) if out else _beside(base.record.folder, request.name)
    existing, text, made_of = _existing_growth(folder, base, request, init_from, rows or {})
    if existing is None or existing.state.status != "finished":
        growth = _prepared(base, request, made_of, rows, prove=prove, init_from=init_from)
        fingerprint = _fingerprint(folder, existing, growth.prepared)
        record = existing or Record.create(folder)
        with record.lock():
            growth.write(record, text, fingerprint)
            _grow(growth, record, init_from, console, callbacks)
    else:
        console.print(f"{folder} is finished already; nothing to do.", soft_wrap=True)
    if not Record(folder).report_html.is_file():  # not there either after a kill while the page was written
        report([folder])
    return Run(folder)


def _fingerprint(folder: Path, existing: Record | None, prepared: Prepared) -> Fingerprint:
    """Give what the growth is made of; refuse to go on where that is not what it began with."""
    fingerprint = fingerprint_of(prepared)
    changes = changes_since(existing, fingerprint) if existing else []
    if changes:
        found, fix = f"{len(changes)} of it changed", "Bring back what changed, or name another folder"
        head = Fault(f"--out {folder}", "go on with what it began with", found, fix)
        raise RunFolderError(head, *(change.fault for change in changes))
    return fingerprint


def _beside(folder: Path, name: str) -> Path:
    folder = folder if folder.name else folder.resolve()
    return folder.with_name(f"{folder.name}-{name}")


def _existing_growth(
    folder: Path, base: Base, request: Request, init_from: str | None, rows: InMemory
) -> tuple[Record | None, str, dict[str, Any]]:
    """Open the folder where it holds this very growth, begun before; give run.yaml, and what else it is made of."""
    _identity(request.alone, {name: held for name, held in rows.items() if name == request.name})
    text = _identity(request.joint, rows)
    made_of = {"base": str(base.record.folder.resolve()), "weights": base.digests(), "init_from": init_from}
    made_of |= request.identity()
    existing = _existing(folder, text)
    _refuse_other(folder, existing, made_of)
    return existing, text, made_of


def _refuse(base: Base, request: Request, init_from: str | None) -> None:
    """Refuse what the run's model has no place for."""
    if world_size() > 1:
        found = f"{world_size()} processes"
        raise ConfigError(Fault("add-task", "be called in one process", found, "Call it without `torchrun`"))
    kind: type[Task] = TASKS.load(request.alone.tasks[request.name].type)
    where = f"tasks.{request.name}.type"
    if kind.reads == "words" and unwrapped(base.model.backbone).get_output_embeddings() is None:
        found = f"`{request.alone.tasks[request.name].type}` on a run that has loaded none"
        fix = "Train a run with a task that reads words, and add to that"
        raise ModelError(Fault(where, "be one that needs no language head", found, fix))
    if base.model.routing is not None and init_from == AUTO:
        found, fix = f"`{AUTO}` with `model.sharing`", f"Name one of {listed(list(base.tasks))}"
        raise ConfigError(Fault("--init-from", "name a task where tasks have parts of a scheme", found, fix))
    if init_from not in {None, AUTO} and init_from not in base.tasks:
        fix = nearest(str(init_from), [AUTO, *base.tasks])
        raise ConfigError(Fault("--init-from", "name a task of the run, or `auto`", f"`{init_from}`", fix))


def _refuse_other(folder: Path, existing: Record | None, made_of: Mapping[str, Any]) -> None:
    """Refuse a folder that was made of something else."""
    if existing is None:
        return
    held = read_note(existing.folder / FILE)
    wanted = json.loads(json.dumps(made_of))
    unlike = [key for key in wanted if held.get(key) != wanted[key]]
    if held and unlike:
        key, fix = unlike[0], f"Name another folder, or delete `{folder}` to begin anew"
        of_weights = key == "weights"
        found = "a folder begun with other weights" if of_weights else f"`{key}: {held.get(key)}`"
        requirement = "go on from the weights that it began with" if of_weights else f"hold `{key}: {wanted[key]}`"
        raise RunFolderError(Fault(str(folder), requirement, found, fix))


def _prepared(
    base: Base,
    request: Request,
    made_of: dict[str, Any],
    rows: InMemory | None,
    *,
    prove: bool,
    init_from: str | None,
) -> _Growth:
    """Read the data, and what old tasks answer now; the data of all tasks only where it is trained on or measured."""
    name, whole = request.name, None
    if request.gentle is not None or init_from == AUTO:
        whole = prepare(request.joint, rows=rows)
        unlike = [old for old, task in base.tasks.items() if whole.tasks[old].state() != task.state()]
        if unlike:
            fix = "Bring the data back to what the run was trained on"
            raise RunFolderError(
                *(Fault(f"tasks.{old}.data", "hold the labels of the run", "others", fix) for old in unlike)
            )
    if whole is None:
        prepared = prepare(request.alone, rows=rows)
    else:
        prepared = whole if isinstance(request.gentle, Replay) else _part(whole, request)
    probes, before = {}, {}
    arguments = training_arguments(request.alone.training, Path("unused"), evaluates=False)
    base.model.to(arguments.device)
    if prove and request.gentle is None:
        probes = proof.probes(base, rows)
        before = proof.digests(base, base.model, base.tasks, probes)
    shared = shared_parameters(base.model)
    torch.manual_seed(request.alone.training["seed"])
    base.model.add_head(name, prepared.tasks[name])
    if base.model.routing is not None:
        base.model.routing.add_task(name, init_from)
    if request.own_adapter:
        add_own_adapter(base.model, name, request.own_adapter)
    base.model.to(arguments.device)
    if init_from not in {None, AUTO} and not fitting_parts(base, str(init_from), request, prepared.tasks[name]):
        found = f"`{init_from}`, whose labels and adapter are others"
        fix = f"Take `--init-from {AUTO}`, or leave it out"
        raise ModelError(Fault("--init-from", f"name a task with a part that fits `{name}`", found, fix))
    return _Growth(base, request, prepared, whole, shared, made_of, probes, before)


def _part(whole: Prepared, request: Request) -> Prepared:
    """Give the new task's part of the data of all."""
    name = request.name
    return replace(
        whole,
        config=request.alone,
        tasks={name: whole.tasks[name]},
        corpora={name: whole.corpora[name]},
        items={name: whole.items[name]},
        judged={name: whole.judged[name]},
    )


def _grow(
    growth: _Growth,
    record: Record,
    init_from: str | None,
    console: Console,
    callbacks: Sequence[transformers.TrainerCallback],
) -> None:
    """Train, save, prove and score."""
    base, request, model = growth.base, growth.request, growth.base.model
    _begin(growth, record, init_from)
    config = request.joint if isinstance(request.gentle, Replay) else request.alone
    settle(model, request.name, growth.shared, request.gentle)
    session = GrowthSession(config, growth.prepared, record.checkpoints, model, base.described())
    watching = list(callbacks)
    if isinstance(request.gentle, Fisher) and growth.whole is not None:
        whole, gentle = growth.whole, request.gentle
        information = fisher.kept_information(
            record.folder / fisher.FILE,
            lambda: fisher.fisher_information(model, whole, list(base.tasks), growth.shared, gentle.rows),
        )
        watching.append(fisher.Anchor(model, information, gentle.strength))
    step = _fit(session, record, console, watching)
    session.save(record.model)
    if request.gentle is None:
        _finish(growth, session, record, step)
    else:
        _finish_gently(growth, record, session)
    record.write_state("finished", step)


def _finish(growth: _Growth, session: GrowthSession, record: Record, step: int) -> None:
    """Prove that old tasks answer as before, and score the new one."""
    base, request = growth.base, growth.request
    if growth.probes:
        model, tasks, _ = load_model(record.model)
        model.to(session.arguments.device)
        after = proof.digests(base, model, tasks, growth.probes)
        try:
            proof.prove(record, growth.probes, growth.before, after)
        except proof.ChangedOutputsError:
            shutil.rmtree(record.model)
            record.write_state("failed", step)
            raise
    own = session.score(request.alone.evaluation.splits, record)
    record.write_scores(joined_scores(base.record, record, request.joint, own))


def _finish_gently(growth: _Growth, record: Record, session: GrowthSession) -> None:
    """Score all tasks, and say what the old ones lost."""
    base, request, whole = growth.base, growth.request, growth.whole
    assert whole is not None
    settings = request.joint.evaluation
    before, _, _ = load_model(base.record.model)
    before.to(session.arguments.device)
    held = {name: base.tasks[name] for name in base.tasks}
    old = Session(request.joint, whole, record.checkpoints, before)
    new = Session(request.joint, whole, record.checkpoints, session.model)
    found = forgetting.compare_answers(
        forgetting.answers_of(old, held, settings.splits),
        forgetting.answers_of(new, held, settings.splits),
        whole.judged,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=request.joint.training["seed"],
    )
    new.score(settings.splits, record)
    forgetting.write_forgetting(record, found)


# --- where the new task begins --------------------------------------------------------------------------------------


def _begin(growth: _Growth, record: Record, init_from: str | None) -> None:
    """Put the new task's parts where they begin: as drawn, or as those of another task."""
    request, model, name = growth.request, growth.base.model, growth.request.name
    if init_from is None:
        return
    if init_from != AUTO:
        copy_parts(model, init_from, name, fitting_parts(growth.base, init_from, request, growth.prepared.tasks[name]))
        return
    found = relatedness.read_relatedness(record)
    if not found:
        assert growth.whole is not None
        found = _measured(growth, growth.whole)
        relatedness.write_relatedness(record, found)
    for each in found:
        if each.chosen:
            copy_parts(model, each.task, name, each.parts)


def _measured(growth: _Growth, whole: Prepared) -> list[relatedness.Related]:
    """Measure how old tasks are related to the new one, and choose among those with parts that fit."""
    request, model, name = growth.request, growth.base.model, growth.request.name
    training = request.alone.training
    drawn = {key: value.clone() for key, value in model.heads[name].state_dict().items()}
    rate = request.alone.tasks[name].learning_rate or request.alone.model.head_learning_rate
    rate = rate or 10 * training["learning_rate"]
    found = relatedness.measure(model, whole, name, sorted(growth.shared), rate=rate, seed=training["seed"])
    model.heads[name].load_state_dict(drawn)
    task = growth.prepared.tasks[name]
    fitting = [replace(each, parts=fitting_parts(growth.base, each.task, request, task)) for each in found]
    best = next((each.task for each in fitting if each.parts), None)
    return [replace(each, chosen=each.task == best) for each in fitting]


def fitting_parts(base: Base, old: str, request: Request, task: Task) -> list[str]:
    """Say which parts of an old task the new one may begin with: its head, its own adapter, its parts of a scheme.

    A head fits where type and labels agree, an own adapter where rank and target modules do.
    """
    parts, model = [], base.model
    one, other = model.heads[old].state_dict(), model.heads[request.name].state_dict()
    same_type = base.config.tasks[old].type == request.alone.tasks[request.name].type
    shapes = [{key: value.shape for key, value in held.items()} for held in (one, other)]
    if one and same_type and shapes[0] == shapes[1] and _labels(base.tasks[old]) == _labels(task):
        parts.append("head")
    if model.routing is not None:
        parts.append("sharing")  # whose parts are the same for every task, and were copied as they were made
    held, wanted = model.own_adapters.get(old), request.own_adapter
    if held and wanted and all(held[key] == wanted[key] for key in ("r", "target_modules")):
        parts.append("own_adapter")
    return parts


def _labels(task: Task) -> Any:
    state = task.state()
    return state.get("labels", state)
