"""What a code object does, apart from where it is written: its normal form, and the names it looks up.

Left out are line numbers, file names, comments, docstrings and constants that no instruction uses.
The rest depends on the Python version, as byte code does.
"""

from __future__ import annotations

import bisect
import dis
import inspect
import marshal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

Chain = tuple[str, ...]  # the attributes that are taken of something, one of another

_NOTHING = frozenset({"NOP", "EXTENDED_ARG", "CACHE"})  # a NOP only keeps a line number, another lies in the argument
_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)
_CONSTANTS = frozenset(dis.hasconst)
_ABOUT = frozenset({"__doc__", "__firstlineno__", "__static_attributes__"})  # the last follows the order of a set
_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD")
_FLAGS = (
    inspect.CO_OPTIMIZED | inspect.CO_NEWLOCALS | inspect.CO_VARARGS | inspect.CO_VARKEYWORDS | inspect.CO_GENERATOR
    | inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE | inspect.CO_ASYNC_GENERATOR
)  # fmt: skip


@dataclass(frozen=True)
class Import:
    """An import statement inside of a function. `names`: of `from module import names`. Of a plain import,
    `bound` is the module that it binds, and `uses` what is taken of that; () where the module itself goes
    somewhere."""

    module: str
    level: int
    names: tuple[str, ...] = ()
    bound: str = ""
    uses: frozenset[Chain] = frozenset()


@lru_cache(maxsize=4096)
def normal_form(code: CodeType) -> tuple[bytes, tuple[Any, ...]]:
    """What the code does, and the constants that it uses, in the order of their first use."""
    instructions = _instructions(code)
    offsets = [i.offset for i in instructions for _ in _pair(i)]
    used: dict[int, int] = {}  # constants by their place in the code, to their place here

    def argument(instruction: dis.Instruction) -> Any:
        if instruction.opcode in _JUMPS:
            return bisect.bisect_left(offsets, instruction.argval)
        if instruction.opcode in _CONSTANTS and instruction.arg is not None:
            return used.setdefault(instruction.arg, len(used))
        return instruction.argval if "_FAST" in instruction.opname else instruction.arg

    steps = [step for i in instructions for step in (_pair(i) if len(_pair(i)) > 1 else [(i.opname, argument(i))])]
    places = [tuple(bisect.bisect_left(offsets, o) for o in e[:3]) + tuple(e[3:]) for e in _handlers(code)]
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & _FLAGS
    names = code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars
    return marshal.dumps((counts, names, steps, places), 2), tuple(code.co_consts[at] for at in used)


def global_names(code: CodeType) -> dict[str, frozenset[Chain]]:
    """The global names that the code and the functions inside of it read, and which attributes are taken of each.
    The empty chain: the value itself goes somewhere."""
    found: dict[str, set[Chain]] = {}
    for inner in _with_inner(code):
        instructions = _instructions(inner)
        for at, instruction in enumerate(instructions):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
                found.setdefault(instruction.argval, set()).add(_chain(instructions, at))
    return {name: frozenset(found[name]) for name in sorted(found)}


def imports(code: CodeType) -> list[Import]:
    """The import statements of the code and the functions inside of it."""
    return [one for inner in _with_inner(code) for one in _imports(_instructions(inner))]


def always_run(code: CodeType) -> Iterator[dis.Instruction]:
    """The instructions that no call which returns goes without, whatever becomes of them: none after a return, under a
    condition, in a loop, or where an exception or a context manager is provided for."""
    instructions = _instructions(code)
    handles = {i.offset for i in instructions if i.opname == "PUSH_EXC_INFO"}  # others only tidy up, and raise again
    guarded = [(start, end) for start, end, handler, *_ in _handlers(code) if handler in handles]
    past = 0  # where the last jump so far leads to
    for i in instructions:
        if i.opname.startswith(("RETURN_VALUE", "RETURN_CONST")):
            return
        if i.offset >= past and not any(start <= i.offset < end for start, end in guarded):
            yield i
        if i.opcode in _JUMPS:
            past = max(past, i.argval)


def _pair(instruction: dis.Instruction) -> list[tuple[str, Any]]:
    """The steps of an instruction. Python 3.13 joins two that use local variables, if they are on the same line."""
    if "_FAST_" in instruction.opname and isinstance(instruction.argval, tuple):
        first, _, second = instruction.opname.partition("_FAST_")
        return [(f"{first}_FAST", instruction.argval[0]), (second, instruction.argval[1])]
    return [(instruction.opname, None)]


def _handlers(code: CodeType) -> Iterator[tuple[int, int, int, int, bool]]:
    """The exception table: from, to, handler (offsets), depth of the stack, whether it wants the last offset."""
    entries: Any = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]
    for entry in entries:
        yield entry.start, entry.end, entry.target, entry.depth, entry.lasti


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in normal_form(code)[1]:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


@lru_cache(maxsize=4096)
def _instructions(code: CodeType) -> Sequence[dis.Instruction]:
    """The instructions, but for those that do nothing or say where a class was written."""
    found: list[dis.Instruction] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname == "STORE_NAME" and instruction.argval in _ABOUT and found[-1].opname == "LOAD_CONST":
            found.pop()
        elif instruction.opname not in _NOTHING:
            found.append(instruction)
    return found


def _chain(instructions: Sequence[dis.Instruction], at: int) -> Chain:
    """The attributes that are taken of what the instruction has loaded."""
    chain: list[str] = []
    for following in instructions[at + 1 :]:
        if following.opname not in _ATTRIBUTE:
            break
        chain.append(following.argval)
    return tuple(chain)


def _imports(instructions: Sequence[dis.Instruction]) -> Iterator[Import]:
    for at, instruction in enumerate(instructions):
        if instruction.opname != "IMPORT_NAME":
            continue
        level, names = instructions[at - 2].argval, instructions[at - 1].argval
        if names:
            yield Import(instruction.argval, level, tuple(names))
            continue
        after, module = at + 1, instruction.argval
        bound = module.partition(".")[0]
        while not instructions[after].opname.startswith("STORE_"):  # import a.b as c
            after, bound = after + 1, module
        yield Import(module, level, (), bound, _uses(instructions, after))


def _uses(instructions: Sequence[dis.Instruction], stored: int) -> frozenset[Chain]:
    """What is taken of the local variable that an instruction stores."""
    store = instructions[stored]
    name = store.argval[0] if isinstance(store.argval, tuple) else store.argval
    if not store.opname.startswith("STORE_FAST"):
        return frozenset({()})
    found: set[Chain] = set()
    for at, instruction in enumerate(instructions):
        if "LOAD_FAST" not in instruction.opname:
            continue
        loaded = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        if name in loaded[:-1] and not instruction.opname.startswith("STORE"):
            found.add(())
        if loaded[-1] == name:
            found.add(_chain(instructions, at))
    return frozenset(found)
