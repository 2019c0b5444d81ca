"""Programs as machine code: one loop that reads each band once and writes each result once.

LLVM (through llvmlite, which numba and datashader bring along) compiles a `Program` for the
processor at hand, 16 pixels at a time. Stored integers are decoded and results coded in
registers. Results that exceed the caches are written past them, so that a value costs the memory
bus one write and nothing else; the interpreter's lock is free meanwhile.

An infinity can only turn into a number again as a denominator or in an exponential. There and in
the results it becomes NaN, which is the same as if it became NaN wherever it arose.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numpy.typing import NDArray

from deepfeatures.indices.program import Program

LANES = 16
"""Pixels that are computed at once: one AVX-512 register, or two or four smaller ones."""
CODES = 32767
"""Largest magnitude of a coded result; -32768 is no value."""
NO_VALUE = -32768
"""Code of a result that is no value."""
STREAM = 16 * 1024**2
"""Bytes of results from which on they are written past the caches."""
ROWS = 8
"""Rows of results from which on they always are: so many lines of the cache, all at the same place
of their pages, would push each other out."""
LINE = 64
"""Bytes of a line of the cache."""
ALONE = 1 << 22
"""Values of results up to which one thread works alone: to wake others would take longer."""

_F32, _F64 = ir.FloatType(), ir.DoubleType()
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_BITS = {"float32": _F32, "uint16": _I16, "int16": _I16}
_LOCK = threading.Lock()
Value = Any  # of LLVM; llvmlite has no types


@dataclass(frozen=True)
class Coding:
    """How bands are stored: value = code * scale + offset."""

    scale: float
    """Step."""
    offset: float
    """Value of code 0."""
    fill: int
    """Code that means no value."""


@dataclass(frozen=True)
class _Form:
    """What a compiled loop reads and writes."""

    source: Coding | None
    """Coding of the bands (uint16); None for float32."""
    coded: bool
    """Whether the results are int16 codes instead of float32."""
    counting: bool
    """Whether values that are undefined or clipped are counted."""
    masked: bool
    """Whether they are counted only where a mask is 1."""
    streaming: bool
    """Whether results go past the caches."""


class _Loop:
    """Writes the loop of a program in LLVM's language."""

    def __init__(self, program: Program, form: _Form) -> None:
        self.program, self.form = program, form
        self.module = ir.Module("indices")
        pointers = ir.PointerType(ir.PointerType(_I16))
        kinds = [pointers, pointers, _I64, _I64]
        kinds += [ir.PointerType(kind) for kind in (_F32, _I64, _I8)]
        self.run = ir.Function(self.module, ir.FunctionType(ir.VoidType(), kinds), "run")
        for argument in self.run.args[:2] + self.run.args[4:]:
            argument.add_attribute("noalias")
        self.build = ir.IRBuilder(self.run.append_basic_block("entry"))
        self.known: dict[str, ir.Function] = {}

    def text(self) -> str:
        """Give the whole module."""
        program, build = self.program, self.build
        sources = [self._pointer(0, number) for number in range(len(program.inputs))]
        targets = [self._pointer(1, number) for number in range(program.outputs)]
        entry, loop = build.block, self.run.append_basic_block()
        build.branch(loop)
        build.position_at_end(loop)
        self.at = build.phi(_I64)
        self.at.add_incoming(self.run.args[2], entry)
        bands = [self._load(source) for source in sources]
        self._steps(bands, targets)
        following = build.add(self.at, ir.Constant(_I64, LANES))
        self.at.add_incoming(following, loop)
        done = self.run.append_basic_block()
        build.cbranch(build.icmp_signed("<", following, self.run.args[3]), loop, done)
        build.position_at_end(done)
        if self.form.streaming:
            build.fence("seq_cst")  # what was written past the caches is seen by all from here
        build.ret_void()
        return str(self.module)

    def _steps(self, bands: list[Value], targets: list[Value]) -> None:
        program = self.program
        values = dict(enumerate(bands + [_each(_F32, c) for c in program.constants]))
        there = [self.build.fcmp_ordered("ord", band, band) for band in bands]
        self.counted = [self._mask()] if self.form.masked else []
        first = len(values) + program.slots
        for operation, places in program.code:
            value = self._operation(operation, [values[place] for place in places[:-1]])
            values[places[-1]] = value
            if places[-1] >= first:
                row = places[-1] - first
                self._result(row, self._finite(value), targets[row], there)

    def _operation(self, name: str, args: list[Value]) -> Value:
        build = self.build
        if name == "+":
            return build.fadd(*args)
        if name == "-":
            return build.fsub(*args)
        if name == "*":
            return build.fmul(*args)
        if name == "/":
            return build.fdiv(args[0], self._finite(args[1]))
        if name == "neg":
            return build.fneg(*args)
        if name == "sqrt":
            return self._call("llvm.sqrt", *args)
        if name == "exp":
            wide = build.fpext(self._finite(*args), _vector(_F64))
            return self._exp2(build.fmul(wide, _each(_F64, math.log2(math.e))))
        if name == "**":
            return self._power(*args)
        return args[0]

    def _result(self, row: int, value: Value, target: Value, there: list[Value]) -> None:
        """Store a result; count where it is undefined though all its bands are there."""
        build, form = self.build, self.form
        missing = build.fcmp_unordered("uno", value, value)
        if form.counting:
            used = [there[number] for number in self.program.uses[row]]
            self._count(row, 0, [missing, *used])
            self._count(row, 3, used)
        if form.coded:
            value = self._coded(row, value, missing)
        place = build.bitcast(
            build.gep(target, [self.at]), ir.PointerType(_vector(_I16 if form.coded else _F32))
        )
        stored = build.store(value, place)
        stored.align = LINE if form.streaming else 2 if form.coded else 4
        if form.streaming:
            stored.set_metadata("nontemporal", self.module.add_metadata([ir.Constant(_I32, 1)]))

    def _coded(self, row: int, value: Value, missing: Value) -> Value:
        """Give the codes of a result; count what is clipped."""
        build = self.build
        rate, shift = (self._factor(2 * row + part) for part in (0, 1))
        code = self._call("llvm.rint", build.fadd(build.fmul(value, rate), shift))
        low, high = _each(_F32, -CODES), _each(_F32, CODES)
        under = build.fcmp_ordered("<", code, low)
        over = build.fcmp_ordered(">", code, high)
        if self.form.counting:
            self._count(row, 1, [under])
            self._count(row, 2, [over])
        code = build.select(under, low, build.select(over, high, code))
        code = build.select(missing, _each(_F32, NO_VALUE), code)
        return build.trunc(build.fptosi(code, _vector(_I32)), _vector(_I16))

    def _factor(self, number: int) -> Value:
        """Give a number of the coding of the results in all lanes."""
        build = self.build
        one = build.load(build.gep(self.run.args[4], [ir.Constant(_I64, number)]))
        lane = build.insert_element(ir.Constant(_vector(_F32), ir.Undefined), one, _I32(0))
        return build.shuffle_vector(lane, lane, _each(_I32, 0))

    def _count(self, row: int, column: int, where: list[Value]) -> None:
        """Count the lanes in which all masks hold."""
        build = self.build
        held, *others = where + self.counted
        for mask in others:
            held = build.and_(held, mask)
        number = build.ctpop(build.bitcast(held, ir.IntType(LANES)))
        place = build.gep(self.run.args[5], [ir.Constant(_I64, 4 * row + column)])
        build.store(build.add(build.load(place), build.zext(number, _I64)), place)

    def _mask(self) -> Value:
        build = self.build
        place = build.bitcast(build.gep(self.run.args[6], [self.at]), ir.PointerType(_vector(_I8)))
        found = build.load(place)
        found.align = 1
        return build.icmp_unsigned("==", found, _each(_I8, 1))

    def _pointer(self, argument: int, number: int) -> Value:
        build = self.build
        place = build.gep(self.run.args[argument], [ir.Constant(_I64, number)])
        coded = self.form.coded if argument else self.form.source is not None
        return build.bitcast(build.load(place), ir.PointerType(_I16 if coded else _F32))

    def _load(self, source: Value) -> Value:
        build, coding = self.build, self.form.source
        kind = _F32 if coding is None else _I16
        place = build.bitcast(build.gep(source, [self.at]), ir.PointerType(_vector(kind)))
        found = build.load(place)
        found.align = 4 if coding is None else 2
        if coding is None:
            return self._finite(found)
        value = build.uitofp(build.zext(found, _vector(_I32)), _vector(_F32))
        value = build.fmul(value, _each(_F32, float(np.float32(coding.scale))))
        value = build.fadd(value, _each(_F32, float(np.float32(coding.offset))))
        missing = build.icmp_unsigned("==", found, _each(_I16, coding.fill))
        return build.select(missing, _each(_F32, math.nan), value)

    def _finite(self, value: Value) -> Value:
        """Make infinities NaN."""
        build = self.build
        fine = build.fcmp_ordered("!=", self._call("llvm.fabs", value), _each(_F32, math.inf))
        return build.select(fine, value, _each(_F32, math.nan))

    def _call(self, name: str, *args: Value) -> Value:
        """Call an intrinsic function on vectors of the type of its first argument."""
        kind = args[0].type
        full = f"{name}.v{LANES}{'f32' if kind.element == _F32 else 'f64'}"
        if full not in self.known:
            shape = ir.FunctionType(kind, [kind] * len(args))
            self.known[full] = ir.Function(self.module, shape, full)
        return self.build.call(self.known[full], args)

    def _polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """Give c0 + c1 x + c2 x^2 ..."""
        found = _each(_F64, coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            found = self.build.fadd(self.build.fmul(found, x), _each(_F64, coefficient))
        return found

    def _exp2(self, exponent: Value) -> Value:
        """Give 2^x, right to the last bit of float32 but for rare ties; x in float64.

        2^x = 2^n 2^r with n whole and |r| <= 1/2; the series of 2^r to degree 9 is off by less
        than 1e-11.
        """
        build, wide = self.build, _vector(_I64)
        low, high = _each(_F64, -1000.0), _each(_F64, 1000.0)
        bounded = build.select(build.fcmp_ordered("<", exponent, low), low, exponent)
        bounded = build.select(build.fcmp_ordered(">", bounded, high), high, bounded)
        there = build.fcmp_ordered("ord", exponent, exponent)
        bounded = build.select(there, bounded, _each(_F64, 0.0))
        whole = self._call("llvm.rint", bounded)
        series = [math.log(2.0) ** n / math.factorial(n) for n in range(10)]
        part = self._polynomial(build.fsub(bounded, whole), series)
        bits = build.add(build.fptosi(whole, wide), _each(_I64, 1023))
        scale = build.bitcast(build.shl(bits, _each(_I64, 52)), _vector(_F64))
        found = build.fptrunc(build.fmul(part, scale), _vector(_F32))
        return build.select(there, found, _each(_F32, math.nan))

    def _log2(self, x: Value) -> Value:
        """Give log2 of positive normal numbers in float64, off by less than 1e-10.

        x = 2^e m with m in 0.7 .. 1.4; log m = 2 artanh((m - 1) / (m + 1)), as a series.
        """
        build, wide = self.build, _vector(_I64)
        bits = build.sub(build.bitcast(x, wide), _each(_I64, 0x3FE6A09E667F3BCD))  # sqrt(1/2)
        power = build.ashr(bits, _each(_I64, 52))
        bits = build.sub(build.bitcast(x, wide), build.shl(power, _each(_I64, 52)))
        mantissa, one = build.bitcast(bits, _vector(_F64)), _each(_F64, 1.0)
        s = build.fdiv(build.fsub(mantissa, one), build.fadd(mantissa, one))
        series = [2.0 / math.log(2.0) / n for n in range(1, 14, 2)]
        found = build.fmul(s, self._polynomial(build.fmul(s, s), series))
        return build.fadd(found, build.sitofp(power, _vector(_F64)))

    def _power(self, base: Value, exponent: Value) -> Value:
        """Give base^exponent of a fraction: NaN below zero, zero at zero."""
        build = self.build
        wide = build.fpext(base, _vector(_F64))
        log = self._log2(wide)
        found = self._exp2(build.fmul(log, build.fpext(exponent, _vector(_F64))))
        zero = _each(_F32, 0.0)
        found = build.select(build.fcmp_ordered("==", base, zero), zero, found)
        usable = build.fcmp_ordered(">=", self._finite(base), zero)
        return build.select(usable, found, _each(_F32, math.nan))


@cache
def _vector(kind: ir.Type) -> ir.VectorType:
    return ir.VectorType(kind, LANES)


@cache
def _each(kind: ir.Type, number: float) -> ir.Constant:
    """Give a constant in all lanes; made, and written out, once."""
    exact = float(number) if kind in (_F32, _F64) else int(number)
    return ir.Constant(_vector(kind), [ir.Constant(kind, exact)] * LANES)


class Kernel:
    """A compiled loop over pixels."""

    def __init__(self, program: Program, form: _Form) -> None:
        self._engine = _compiled(_Loop(program, form).text())
        kinds = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        kinds += [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        address = self._engine.get_function_address("run")
        self._run: Callable[..., None] = ctypes.CFUNCTYPE(None, *kinds)(address)

    def __call__(
        self,
        bands: Sequence[NDArray[Any]],
        out: NDArray[Any],
        span: tuple[int, int],
        factors: NDArray[np.float32],
        counts: NDArray[np.int64],
        mask: NDArray[np.uint8] | None,
    ) -> None:
        """Compute the pixels of a span, whose length is a multiple of `LANES`."""
        sources = np.array([band.ctypes.data for band in bands], np.uintp)
        first, step = out.ctypes.data, out.strides[0]
        targets = (first + step * np.arange(len(out))).astype(np.uintp)
        self._run(sources.ctypes.data, targets.ctypes.data, *span,
                  factors.ctypes.data, counts.ctypes.data,
                  0 if mask is None else mask.ctypes.data)  # fmt: skip


@lru_cache(maxsize=1024)
def _kernel(program: Program, form: _Form) -> Kernel:
    with _LOCK:  # LLVM's module cache and target are shared
        return Kernel(program, form)


def _compiled(text: str) -> binding.ExecutionEngine:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(text)
    module.verify()
    target = binding.Target.from_default_triple()
    features = binding.get_host_cpu_features().flatten()
    machine = target.create_target_machine(binding.get_host_cpu_name(), features, opt=2)
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return engine


@cache
def _threads(process: int) -> ThreadPoolExecutor:
    """Give the threads of a process: a forked one has none of its parent's."""
    return ThreadPoolExecutor(cores(), thread_name_prefix="indices")


def cores() -> int:
    """Give the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(
    program: Program,
    bands: Sequence[NDArray[Any]],
    out: NDArray[Any],
    *,
    source: Coding | None = None,
    factors: NDArray[np.float32] | None = None,
    counts: NDArray[np.int64] | None = None,
    mask: NDArray[np.uint8] | None = None,
    threads: int | None = None,
) -> None:
    """Compute a program.

    Parameters
    ----------
    program
        What to compute.
    bands
        One flat contiguous array (n,) for each of ``program.inputs``: float32, or uint16 with
        `source`.
    out
        Rows (outputs, n), each contiguous: float32 with NaN, or int16 with `factors` and
        `NO_VALUE`; written.
    source
        Coding of the bands.
    factors
        (outputs, 2): a result r becomes the whole number nearest to ``r * factors[:, 0] +
        factors[:, 1]``, clipped to +- `CODES`.
    counts
        (outputs, 4), added to: values undefined although all bands of the output are there,
        clipped from below, clipped from above, and pixels in which all its bands are there.
    mask
        Flat (n,): only pixels where it is 1 are counted.
    threads
        How many work at most; by default one per core.
    """
    n, given = out.shape[1], np.zeros((1, 2), np.float32) if factors is None else factors
    many = len(out) >= ROWS or out.nbytes >= STREAM
    head = _head(out) if out.dtype == np.float32 and many else None
    start = 0 if head is None else min(head, n)
    stop = n - (n - start) % LANES
    form = _Form(
        source, factors is not None, counts is not None, mask is not None, head is not None
    )

    def part(span: tuple[int, int]) -> NDArray[np.int64]:
        found = np.zeros((program.outputs, 4), np.int64)
        _kernel(program, form)(bands, out, span, given, found, mask)
        return found

    def few(span: tuple[int, int]) -> NDArray[np.int64]:
        kernel = _kernel(program, replace(form, streaming=False))
        return _few(kernel, bands, out, span, source, given, mask)

    sums = [few(span) for span in ((0, start), (stop, n)) if span[0] < span[1]]
    spans = _spans(start, stop, (threads or cores()) if out.size > ALONE else 1)
    sums += (
        [part(span) for span in spans] if len(spans) < 2 else _threads(os.getpid()).map(part, spans)
    )
    if counts is not None:
        counts += sum(sums)


def _head(out: NDArray[Any]) -> int | None:
    """Count the pixels before all rows come to a line of the cache; None if they never do."""
    if len(out) > 1 and out.strides[0] % LINE:
        return None
    return -out.ctypes.data % LINE // out.itemsize


def _spans(start: int, stop: int, workers: int) -> list[tuple[int, int]]:
    """Cut pixels into parts of about the same length, each a multiple of `LANES`."""
    step = -(-(stop - start) // (workers * LANES)) * LANES
    return [(at, min(at + step, stop)) for at in range(start, stop, step)] if step else []


def _few(
    kernel: Kernel,
    bands: Sequence[NDArray[Any]],
    out: NDArray[Any],
    span: tuple[int, int],
    source: Coding | None,
    factors: NDArray[np.float32],
    mask: NDArray[np.uint8] | None,
) -> NDArray[np.int64]:
    """Compute less than `LANES` pixels, filled up with missing ones that count for nothing."""
    start, stop = span
    empty: float = math.nan if source is None else source.fill
    padded = [np.full(LANES, empty, band.dtype) for band in bands]
    for target, band in zip(padded, bands, strict=True):
        target[: stop - start] = band[start:stop]
    rows = np.empty((len(out), LANES), out.dtype)
    counts = np.zeros((len(out), 4), np.int64)
    usable = np.zeros(LANES, np.uint8)
    usable[: stop - start] = 1 if mask is None else mask[start:stop]
    kernel(padded, rows, (0, LANES), factors, counts, usable)
    out[:, start:stop] = rows[:, : stop - start]
    return counts
