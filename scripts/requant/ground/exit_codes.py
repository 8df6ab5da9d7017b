"""The one table of exit codes: read by ``requant --help``, the documents, the jobs of the workflow and the tests."""

from enum import IntEnum, StrEnum
from typing import Self

from requant.ground.errors import (
    DiskError,
    MismatchError,
    PlaceError,
    RequantError,
    SourceError,
    StaleError,
    ToolError,
    UnsupportedError,
    sentence,
)


class ExitCode(IntEnum):
    """What the end of a command says; ``english`` and ``chinese`` say it in words."""

    english: str
    chinese: str

    def __new__(cls, code: int, english: str, chinese: str) -> "ExitCode":
        """A code with its words."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.english, member.chinese = english, chinese
        return member

    OK = 0, "all is as it should be: done, or checked and right, or equal", "一切正常：已完成，或检查无误，或两者相同"
    AGAINST = (
        1,
        "evidence against: something is not what it is said to be, or A and B differ",
        "有反面证据：内容与声明不符，或 A 与 B 不同",
    )
    USAGE = 2, "wrong usage, or input that cannot be read", "用法错误，或输入无法读取"
    UNCHECKED = (
        3,
        "not done or not checked, no evidence against: network, tool, room or right missing, or a file of ours changed",
        "未能完成或未能检查，但没有反面证据：缺少网络、工具、磁盘空间或权限，或 requant 自己的文件被改动过",
    )
    BUG = (
        4,
        "requant's own fault; the file or log that it names holds the traceback",
        "requant 自身的缺陷，所指的文件或日志里有回溯信息",
    )
    INTERRUPTED = 130, "interrupted", "被中断"


class Status(StrEnum):
    """A word that answers a question, and what it alone would give as ``exit_code``."""

    exit_code: ExitCode

    def __new__(cls, value: str, code: ExitCode) -> Self:
        """A word with its exit code."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.exit_code = code
        return member


CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (MismatchError, ExitCode.AGAINST),
    (PlaceError, ExitCode.USAGE),
    (SourceError, ExitCode.UNCHECKED),
    (UnsupportedError, ExitCode.UNCHECKED),
    (StaleError, ExitCode.UNCHECKED),
    (ToolError, ExitCode.UNCHECKED),
    (DiskError, ExitCode.UNCHECKED),
    (OSError, ExitCode.UNCHECKED),
    (RequantError, ExitCode.USAGE),
)
"""The first that fits: a place that is not there is a source that does not deliver, but the user's to mend."""


def exit_code(error: BaseException) -> ExitCode:
    """The code of a command that ``error`` ends; what is not raised on purpose is a bug."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if sentence(error) is None:
        return ExitCode.BUG
    return next(code for kind, code in CODES if isinstance(error, kind))
