"""Pickles read as data: lists, tuples, dicts, numbers, text and numpy arrays. Nothing in the file is ever called.

Python's own unpickler runs what the file names; this one interprets the few opcodes that plain data needs and knows
five numpy functions by name. Any other name, opcode or size is a Problem that says it. Arrays are read-only views
of the mapped file, so a pickle of two gigabytes costs what is looked at.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from jepa3d.problem import Problem

NUMPY_NAMES = {
    f"{module} {name}": name
    for name, modules in {
        "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"),
        "scalar": ("numpy.core.multiarray", "numpy._core.multiarray"),
        "_frombuffer": ("numpy.core.numeric", "numpy._core.numeric"),
        "ndarray": ("numpy",),
        "dtype": ("numpy",),
        "encode": ("_codecs",),
    }.items()
    for module in modules
}
PLAIN_DTYPE = re.compile(r"[<>|=]?[biuf][1248]")
VIEW_FROM = 4096  # longer byte strings stay views of the file
MARK = object()
DAMAGE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError,
    DeprecationWarning,
)  # fmt: skip
PUSHES = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict}
LITERALS = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8",
}  # fmt: skip


class RefusedError(ValueError):
    """The pickle holds something that is no plain data."""


class _Name:
    """One of the allowed functions, by name; it cannot be called by the file."""

    def __init__(self, name: str) -> None:
        self.name = name


class _Dtype:
    def __init__(self, code: Any) -> None:
        if not (isinstance(code, str) and PLAIN_DTYPE.fullmatch(code)):
            raise RefusedError(f"an array of type {code!r}"[:80])
        self.code, self.order = code, "="

    def build(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise RefusedError("a type that is no plain number")
        self.order = order

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<" if self.order == "<" else "=")


class _Array:
    """An array under construction: `_reconstruct` makes it, BUILD fills it."""

    def __init__(self) -> None:
        self.value: np.ndarray[Any, Any] | None = None

    def build(self, state: Any) -> None:
        if not (isinstance(state, tuple) and len(state) == 5):
            raise RefusedError("an array in an unknown form")
        _, shape, dtype, fortran, data = state
        self.value = _view(data, dtype, shape, "F" if fortran else "C")


class _Mapped:
    """What `pickletools.genops` reads from: long strings come out as views, not copies."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.view, self.at = data, memoryview(data), 0

    def read(self, count: int) -> bytes | memoryview:
        found = self.view[self.at : self.at + count]
        self.at += len(found)
        return found if count > VIEW_FROM else bytes(found)

    def readline(self) -> bytes:
        end = self.data.find(b"\n", self.at, self.at + VIEW_FROM)
        return bytes(self.read((end + 1 if end >= 0 else len(self.data)) - self.at))

    def tell(self) -> int:
        return self.at


def load(path: Path) -> Any:
    """The plain data in a pickle. A Problem names the file and what in it is refused."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # of texts with escapes that no pickle has
            return _resolve(_interpret(_Mapped(data)), {})
    except RefusedError as error:
        raise Problem(
            f"{path}: the pickle holds {error}",
            "only arrays of numbers, lists, tuples, dicts, numbers and text are read; nothing was run",
            "get the file again from its publisher; do not open it with another program",
        ) from None
    except DAMAGE as error:
        raise Problem(
            f"{path}: a damaged or truncated pickle", f"{type(error).__name__}: {error}"[:200], "get the file again"
        ) from None


def _interpret(source: _Mapped) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    operations: Any = pickletools.genops(cast(Any, source))
    for opcode, argument, _ in operations:
        name = opcode.name
        if name in LITERALS:
            stack.append(argument)
        elif name == "STOP":
            return stack.pop()
        elif name in PUSHES:
            stack.append(PUSHES[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name == "MARK":
            stack.append(MARK)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name not in ("PROTO", "FRAME"):
            _combine(name, argument, stack)
    raise ValueError("no end")


def _combine(name: str, argument: Any, stack: list[Any]) -> None:
    """The opcodes that take values from the stack."""
    if name == "POP":
        stack.pop()
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        if name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            argument = f"{module} {attribute}"
        stack.append(_named(argument))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        if len(stack) < count:
            raise ValueError("the stack is empty")
        stack[-count:] = [tuple(stack[-count:])]
    elif name in ("TUPLE", "LIST", "DICT"):
        items = _to_mark(stack)
        stack.append(tuple(items) if name == "TUPLE" else items if name == "LIST" else _set({}, items))
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _to_mark(stack)
        _is(stack[-1], list).extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = _to_mark(stack) if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
        _set(_is(stack[-1], dict), items)
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_call(_is(function, _Name).name, _is(arguments, tuple)))
    elif name == "BUILD":
        state, made = stack.pop(), stack[-1]
        if not isinstance(made, _Array | _Dtype):
            raise RefusedError("a change to something that is no array")
        made.build(state)
    else:
        raise RefusedError(f"the operation {name}")


def _named(full: str) -> _Name:
    if full not in NUMPY_NAMES:
        raise RefusedError(f"a call of {full.replace(' ', '.')}"[:120])
    return _Name(NUMPY_NAMES[full])


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    """The few functions that numpy's pickles name, each written out here."""
    if name == "_reconstruct":
        return _Array()
    if name == "dtype":
        return _Dtype(arguments[0])
    if name == "encode" and arguments[1:] in ((), ("latin1",)):
        return arguments[0].encode("latin1")
    if name == "scalar":
        return _view(arguments[1], arguments[0], (), "C")[()]
    if name == "_frombuffer":
        made = _Array()
        made.value = _view(*arguments[:4])
        return made
    raise RefusedError(f"a call of {name}")


def _view(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    """An array over bytes of the file; its declared size must be the size of those bytes."""
    kind = _is(dtype, _Dtype).numpy()
    if isinstance(data, str):  # numpy's arrays in pickles of Python 2
        data = data.encode("latin1")
    if not isinstance(data, bytes | memoryview | bytearray):
        raise RefusedError("an array of objects")
    if not (isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape) and len(shape) <= 8):
        raise RefusedError("an array with an impossible shape")
    if math.prod(shape) * kind.itemsize != len(data):
        raise ValueError(f"an array of shape {shape} cannot have {len(data)} bytes")
    return np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")


def _to_mark(stack: list[Any]) -> list[Any]:
    for position in range(len(stack) - 1, -1, -1):
        if stack[position] is MARK:
            items = stack[position + 1 :]
            del stack[position:]
            return items
    raise ValueError("no mark")


def _set(target: dict[Any, Any], items: list[Any]) -> dict[Any, Any]:
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_is(key, str, int)] = value
    return target


def _is(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds):
        raise RefusedError(f"a {type(value).__name__} where {kinds[0].__name__.strip('_')} belongs")
    return value


def _resolve(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """The finished structure, arrays in the place of those under construction. Shared parts are visited once."""
    if isinstance(value, bool | int | float | str | np.generic | type(None)):
        return value
    if id(value) in done:
        if done[id(value)][1] is MARK:
            raise RefusedError("a structure that contains itself")
        return done[id(value)][1]
    if depth > 16:
        raise RefusedError("a structure nested too deep")
    done[id(value)] = (value, MARK)  # under way; this keeps the value alive, so that its id stays its own
    if isinstance(value, _Array) and value.value is not None:
        made: Any = value.value
    elif isinstance(value, list | tuple):
        made = type(value)(_resolve(item, done, depth + 1) for item in value)
    elif isinstance(value, dict):
        made = {key: _resolve(item, done, depth + 1) for key, item in value.items()}
    else:
        raise RefusedError(f"a {type(value).__name__.strip('_')} out of place")
    done[id(value)] = (value, made)
    return made
