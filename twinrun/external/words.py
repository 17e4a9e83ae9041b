"""What a verify of an external result says besides numbers: problems, notes, proofs, and causes out of reach."""

from __future__ import annotations

from dataclasses import replace

from twinrun.config.sections import ExternalBinding
from twinrun.errors import EXIT_DIFFERENT
from twinrun.events.decode import DECODER_VERSION
from twinrun.external.declared import declared_texts, need_place
from twinrun.external.explain import Case
from twinrun.external.rules import rule_named
from twinrun.external.side import External
from twinrun.job.job import Job
from twinrun.results.causes import BY_NAME, CAUSES
from twinrun.results.records import RULE
from twinrun.results.state import BatchState
from twinrun.results.verdict import CauseCount, ExternalSide, Outcome
from twinrun.wording import worded

_BY_REPLAY = "it takes the stream's micro-batches, run again, and another engine leaves none"
Decision = tuple[Outcome, int, tuple[str, ...]]


def with_problems(decision: Decision, external: External, empty: bool) -> Decision:
    """The decision with what only an external result can have: no row, malformed records, keys without order."""
    outcome, exit_code, problems = decision
    problems = tuple(_of_engine(problem) for problem in problems)
    more = []
    if empty:
        more.append("nothing was compared: the external result has no row")
        outcome = outcome if outcome == "input_behind" else "nothing_compared"
    topic = external.topic
    if topic is not None:
        malformed = sum(each.events for each in topic.malformed)
        if malformed:
            more.append(
                f"{worded(malformed, 'record of the result topic is', 'records of the result topic are')} malformed "
                "(table external_malformed)"
            )
        if topic.split_keys:
            more.append(
                f"{worded(topic.split_keys, 'key has', 'keys have')} records in several partitions, of which no "
                "latest is decided"
            )
        more += [f"schema: {problem}" for problem in topic.fields.problems]
    if not more:
        return outcome, exit_code, problems
    found: Outcome = "differ" if outcome in ("agree", "explained") else outcome
    return found, exit_code or EXIT_DIFFERENT, (*more, *problems)


def _of_engine(problem: str) -> str:
    """A sentence of the normal verify about the stream's side, for a side that another engine wrote."""
    for ours, theirs in _SAID:
        if problem.startswith(ours):
            return problem.replace(*theirs)
    return problem


_SAID = (
    ("the batch has not read", ("what the stream has", "as far as the declared end")),
    ("keys are not unique", (" in the stream", " in the external result")),
    ("schema: ", (" in the stream", " in the external result")),
    ("nothing was compared: all", (" in the stream", " in the other engine")),
)


def proofs(causes: tuple[CauseCount, ...]) -> tuple[CauseCount, ...]:
    """The causes with the sentence that proves them here."""
    return tuple(replace(cause, proof=BY_NAME[cause.cause].external_proof or cause.proof) for cause in causes)


def out_of_reach(case: Case, refuted: int) -> tuple[tuple[str, str], ...]:
    """Causes that were not looked for, each with the reason."""
    binding, job = case.binding, case.job
    found: list[tuple[str, str]] = []
    if not case.by_rule or refuted:
        found.append(("late_dropped", _no_late(case, refuted)))
    if not case.binding.restarts:
        found.append(("emitted_again", "no restarts are declared"))
    elif not case.by_rule or refuted or not case.appended:
        why = "of the latest record per key a second one only replaces the first" if not case.appended else ""
        found.append(("emitted_again", why or _no_late(case, refuted)))
    for cause, key in (("before_start", "start"), ("beyond_cut", "end")):
        if not getattr(binding, key):
            found.append((cause, f"no {key} offsets are declared"))
    found += [(cause.name, _BY_REPLAY) for cause in CAUSES if cause.replayed]
    if job.tables:
        found.append(("static_version", "which version of a static table the engine joined is not recorded"))
    if not case.appended:
        found.append(("sink_duplicate", "of the latest record per key a second copy only replaces the first"))
    if not case.flow.closed_form:
        found.append(("float_order", "this job has no closed form to recompute in exact decimals"))
    return tuple(found)


def _no_late(case: Case, refuted: int) -> str:
    if refuted:
        rows = worded(refuted, "row that agrees contradicts", "rows that agree contradict")
        return f"{rows} the declared late_rule: the engine does not follow it"
    if case.no_rule:
        return case.no_rule
    if case.binding.late_rule == "none":
        return "no late_rule is declared, and another engine records no watermark per event"
    return "late_rule is for jobs of one window operator, and this job is none"


def notes_of(case: Case, external: External, refuted: int, duplicates: int, waiting: int, early: int) -> list[str]:
    """What a reader should know that is no problem."""
    binding, notes = case.binding, []
    if waiting:
        notes.append(
            f"{worded(waiting, 'row of the batch lies', 'rows of the batch lie')} in windows after the newest of the "
            "external result. Whether the stream has not closed them yet or has lost them is not decidable: nothing is "
            f"declared by which a window is open (external.{case.job.job_name}.ready_until or lateness). "
            "They count as unexplained."
        )
    if early:
        notes.append(
            f"{worded(early, 'row of the external result lies', 'rows of the external result lie')} in windows that "
            "are declared open: not compared."
        )
    if not binding.start and not binding.end:
        notes.append("No offsets are declared: the stream is taken to have read the same events as the batch.")
    if refuted:
        notes.append(
            "The declared late_rule is contradicted: by it, "
            f"{worded(refuted, 'row would differ that agrees', 'rows would differ that agree')}. "
            "No event was called late."
        )
    if duplicates:
        notes.append(
            f"{worded(duplicates, 'event id stands', 'event ids stand')} at several offsets (table duplicate_events)."
        )
    return notes + list(external.topic.fields.notes if external.topic else ())


def rule_notes(case: Case, unexpected: int) -> tuple[str, ...]:
    """What a reader should know of the declared rule: that it proves nothing, or that windows come by more than it."""
    name, rule = case.binding.late_rule, rule_named(case.binding.late_rule)
    notes = []
    if case.no_rule:
        notes.append(f"late_rule: {name} proves nothing here: {case.no_rule}.")
    elif rule is not None and rule.wall == "adds" and case.by_rule:
        notes.append(
            f"The clock of {rule.engine} runs on with the time on the wall: events that it dropped by that alone are "
            "in no log, and rows without them stay unexplained."
        )
    if unexpected:
        rows = worded(unexpected, "row of the external result lies", "rows of the external result lie")
        notes.append(
            f"{rows} in windows that late_rule: {name} has not written yet: windows come by more than the rule says, "
            "and no missing row is called pending."
        )
    return tuple(notes)


def left_out_notes(case: Case, rows: int) -> tuple[str, ...]:
    """What a reader should know of records that the job leaves out; ``rows`` are not judged. One small Spark job."""
    count = sum(events.count() for events in case.left_out.values())
    if not count:
        return ()
    name = case.job.job_name
    them = "it" if count == 1 else "them"
    said = (
        f"{worded(count, 'record that the other engine has read is', 'records that the other engine has read are')} "
        f"left out by {name} (rule {RULE}; twinrun quarantine {name} --list): whether the engine counted {them} is not "
        "known."
    )
    if rows:
        wait = worded(rows, "differing row to which", "differing rows to which")
        said += f" {wait} {'it' if count == 1 else 'they'} may belong {'is' if rows == 1 else 'are'} not judged."
    return (said,)


def decoder_notes(job: Job, batch: BatchState) -> tuple[str, ...]:
    """What a reader should know where the batch's events were read by another version of the decoder. Pure.

    The proofs stand on those events, as the batch's result does: what they say holds.
    """
    if batch.fingerprint.get("decoder") == DECODER_VERSION:
        return ()
    return (
        "The batch's result comes from a version of twinrun that decodes records in another way than this one "
        "(docs/decoding.md): it is compared as it is. A new run decodes "
        f"everything anew: twinrun batch {job.job_name}",
    )


def external_side(
    job: Job, binding: ExternalBinding, external: External, rows: int, early: int, reach: tuple[tuple[str, str], ...]
) -> ExternalSide:
    """What the report shows of the stream's side."""
    topic = external.topic
    return ExternalSide(
        place=need_place(binding),
        declared=declared_texts(binding, job),
        offsets_declared=bool(binding.start or binding.end),
        rows=rows,
        early_rows=early,
        records=None if topic is None else topic.records,
        superseded=None if topic is None else topic.superseded,
        tombstones=None if topic is None else topic.tombstones,
        malformed=() if topic is None else topic.malformed,
        out_of_reach=reach,
        late_rule=binding.late_rule,
    )
