"""What is compared with what: the result of looking at two schemas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pyspark.sql import types as T

from twinrun.tolerance import Tolerance

Side = Literal["batch", "stream"]
DifferenceKind = Literal["missing_in_batch", "missing_in_stream", "type_differs"]


@dataclass(frozen=True)
class PlannedColumn:
    """A column that both tables have.

    Attributes
    ----------
    name : str
        Its exact name in both tables.
    batch_position, stream_position : int
        Where it stands in each table, from 0.
    batch_type, stream_type : DataType
        What each table holds.
    dtype : DataType
        The type in which the values are compared.
    tolerance : Tolerance or None
        None means exact.
    declared : bool
        Whether ``dtype`` was declared, and does not follow from the tables' types.
    naive_offset_s : int or None
        How many seconds ahead of UTC times without a zone are taken to be, where the other table's have one.
    """

    name: str
    batch_position: int
    stream_position: int
    batch_type: T.DataType
    stream_type: T.DataType
    dtype: T.DataType
    tolerance: Tolerance | None = None
    declared: bool = False
    naive_offset_s: int | None = None


@dataclass(frozen=True)
class SchemaDifference:
    """A column that only one table has, or that has another type in each.

    Attributes
    ----------
    name : str
        The column.
    kind : {"missing_in_batch", "missing_in_stream", "type_differs"}
        What is wrong with it.
    batch_type, stream_type : str or None
        The type in each table; None where the column is missing.
    nearest : str or None
        For a missing column: an equally unmatched column of the other table with a similar name, perhaps the same
        column renamed.
    """

    name: str
    kind: DifferenceKind
    batch_type: str | None
    stream_type: str | None
    nearest: str | None = None


@dataclass(frozen=True)
class SchemaPlan:
    """How two tables are compared.

    Attributes
    ----------
    columns : tuple of PlannedColumn
        Matched columns in the order of the batch table.
    keys : tuple of int
        Positions in ``columns`` of the key columns, in the order in which they were given.
    window : int or None
        Position in ``columns`` of the window column.
    differences : tuple of SchemaDifference
        Sorted by column name. Any entry makes the tables different, whatever their values.
    batch_width, stream_width : int
        How many columns each table has.
    """

    columns: tuple[PlannedColumn, ...]
    keys: tuple[int, ...]
    window: int | None
    differences: tuple[SchemaDifference, ...]
    batch_width: int
    stream_width: int
