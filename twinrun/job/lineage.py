"""Which columns of a result are fields of the events, as they came: read from the analysed plan."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import DataFrame

from twinrun.job.jvmplan import Expr, has_jvm, read_plan


def unchanged_fields(result: DataFrame, events: DataFrame, names: Iterable[str]) -> frozenset[str]:
    """Those of ``names`` that the function passes on from the event's field of the same name.

    So does a field that a join makes equal to the column: an event of the other side reaches no row but those with its
    own value.

    A column that is only *named* like a field, such as ``lower(page) AS page``, is none: it holds other values.

    Parameters
    ----------
    result : DataFrame
        What the job's function made of ``events``.
    events : DataFrame
        The very frame, or a frame from which it was selected.

    Returns
    -------
    frozenset of str
        Empty on Spark Connect, where no plan can be read. No Spark job.
    """
    if not has_jvm(result.sparkSession):
        return frozenset()
    fields = dict(read_plan(events).output)
    plan = read_plan(result)
    columns = dict(plan.output)
    found = set()
    for name in names:
        if name not in columns or name not in fields:
            continue
        made = Expr("AttributeReference", id=columns[name])
        while made.kind == "AttributeReference" and made.id in plan.made_from:
            made = plan.made_from[made.id]
        same = made.id == fields[name] or frozenset({made.id, fields[name]}) in plan.equal
        if made.kind == "AttributeReference" and same:
            found.add(name)
    return frozenset(found)
