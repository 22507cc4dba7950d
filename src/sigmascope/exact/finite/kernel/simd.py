"""Vectors of eight float32 for numba, where its own loops are not vectorised.

numba unrolls a loop of eight before its compiler could vectorise it, and calls ``exp`` for each number.  Here eight
lanes are one value, which any processor that LLVM supports handles with the vectors that it has.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,misc,untyped-decorator"

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model

WIDTH = 8

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_FLOATS, _INTS = ir.VectorType(_FLOAT, WIDTH), ir.VectorType(_INT, WIDTH)
_FUSED = ("contract",)  # a product and a sum may become one instruction


def compiled(**options):
    """numba's compiler, which keeps its results on disk where it can write."""

    def decorate(function):
        try:
            return njit(nogil=True, error_model="numpy", cache=True, **options)(function)
        except RuntimeError:  # no place for the cache
            return njit(nogil=True, error_model="numpy", **options)(function)

    return decorate


class Lanes(types.Type):
    """The type of eight float32."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = Lanes()


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, kind) -> None:
        super().__init__(manager, kind, _FLOATS)


def _all(value: float) -> ir.Constant:
    return ir.Constant(_FLOATS, [value] * WIDTH)


def _spread(builder, x):
    value = builder.insert_element(ir.Constant(_FLOATS, ir.Undefined), x, _INT(0))
    return builder.shuffle_vector(value, ir.Constant(_FLOATS, ir.Undefined), ir.Constant(_INTS, [0] * WIDTH))


def _multiply_add(builder, x, y, z):
    return builder.fadd(builder.fmul(x, y, flags=_FUSED), z, flags=_FUSED)


def _place(context, builder, kind, array, index):
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


@intrinsic
def quadratic(typing, half, first, start, x2, x, shift):
    """half[start + i] * x2 + first[start + i] * x + shift, for contiguous float32 arrays."""

    def code(context, builder, signature, args):
        a, b = (builder.load(_place(context, builder, signature.args[k], args[k], args[2]), align=4) for k in range(2))
        inner = _multiply_add(builder, b, _spread(builder, args[4]), _spread(builder, args[5]))
        return _multiply_add(builder, a, _spread(builder, args[3]), inner)

    number = types.float32
    return lanes(half, first, types.intp, number, number, number), code


@intrinsic
def exp(typing, x):
    """e^x to a rounding error or two, for x between -80 and 88 (beyond, 0 and e^88)."""

    def code(context, builder, signature, args):
        value = args[0]
        gone = builder.fcmp_ordered("<", value, _all(-80.0))
        for bound, beyond in ((-80.0, "<"), (88.0, ">")):
            value = builder.select(builder.fcmp_ordered(beyond, value, _all(bound)), _all(bound), value)
        # e^x = 2^n e^r with |r| <= ln 2 / 2; ln 2 in two parts, so that r is exact.
        power = builder.fptosi(_multiply_add(builder, value, _all(1.4426950408889634), _all(127.5)), _INTS)
        n = builder.sitofp(builder.sub(power, ir.Constant(_INTS, [127] * WIDTH)), _FLOATS)
        remainder = _multiply_add(builder, n, _all(-0.693359375), value)
        remainder = _multiply_add(builder, n, _all(2.12194440e-4), remainder)
        series = _all(1 / 720)
        for coefficient in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
            series = _multiply_add(builder, series, remainder, _all(coefficient))
        scale = builder.bitcast(builder.shl(power, ir.Constant(_INTS, [23] * WIDTH)), _FLOATS)
        return builder.select(gone, _all(0.0), builder.fmul(series, scale))

    return lanes(lanes), code


@intrinsic
def lane(typing, x, index):
    """One of the eight numbers."""

    def code(context, builder, signature, args):
        return builder.extract_element(args[0], builder.trunc(args[1], _INT))

    return types.float32(lanes, types.intp), code


@intrinsic
def square(typing, x):
    """x²."""

    def code(context, builder, signature, args):
        return builder.fmul(args[0], args[0])

    return lanes(lanes), code


@intrinsic
def times(typing, x, factor):
    """x times a number."""

    def code(context, builder, signature, args):
        return builder.fmul(args[0], _spread(builder, args[1]))

    return lanes(lanes, types.float32), code


@intrinsic
def add_to(typing, array, start, x):
    """array.flat[start + i] += x[i], for a contiguous float32 array."""

    def code(context, builder, signature, args):
        place = _place(context, builder, signature.args[0], args[0], args[1])
        builder.store(builder.fadd(builder.load(place, align=4), args[2]), place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@intrinsic
def store(typing, array, start, x):
    """array.flat[start + i] = x[i], for a contiguous float32 array."""

    def code(context, builder, signature, args):
        builder.store(args[2], _place(context, builder, signature.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code


@intrinsic
def minus(typing, x, array, start):
    """x[i] - array.flat[start + i], for a contiguous float32 array."""

    def code(context, builder, signature, args):
        place = _place(context, builder, signature.args[1], args[1], args[2])
        return builder.fsub(args[0], builder.load(place, align=4))

    return lanes(lanes, array, types.intp), code


@intrinsic
def largest_into(typing, array, start, x):
    """array.flat[start + i] = max(array.flat[start + i], x[i]), for a contiguous float32 array."""

    def code(context, builder, signature, args):
        place = _place(context, builder, signature.args[0], args[0], args[1])
        held = builder.load(place, align=4)
        larger = builder.select(builder.fcmp_ordered(">", args[2], held), args[2], held)
        builder.store(larger, place, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), code
