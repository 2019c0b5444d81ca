"""Laws of the formula reader: what it accepts, what it refuses and where, and that it is safe."""

from __future__ import annotations

import ast
import pickle
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from deepfeatures import indices
from deepfeatures.bands import BANDS
from deepfeatures.indices.formula import (
    MAX_DEPTH,
    MAX_LENGTH,
    FormulaError,
    Tree,
    bind,
    hint,
    names,
    parse,
)
from tests.rounding import SYMBOLS, bounded, tree_of

FORMULAS = [index.formula for index in indices.INDICES.values()]

WRONG = [
    ("(B08-B99)/2", 5, "at character 6 'B99' is unknown; did you mean B09?"),
    ("   (B08-B99)/2", 8, "at character 9 'B99' is unknown; did you mean B09?"),
    ("ndvi - 1", 0, "at character 1 'ndvi' is unknown; did you mean NDVI?"),
    ("B08 - zebra", 6, "'zebra' is unknown; use bands .* constants .* or indices"),
    ("", 0, "at the end a formula is missing"),
    ("   ", 3, "at the end a formula is missing"),
    ("N +", 3, "at the end a number, a name or '\\(' is missing"),
    ("N + ", 4, "at the end"),
    ("N // R", 3, "is missing before '/'"),
    ("* N", 0, "is missing before '\\*'"),
    ("()", 1, "is missing before '\\)'"),
    ("N R", 2, "an operator is missing before 'R'"),
    ("2 (N + R)", 2, "an operator is missing before '\\('"),
    ("N if R else B", 2, "an operator is missing before 'if'"),
    ("((N + R) / 2", 0, "'\\(' is never closed"),
    ("(N + R)) / 2", 7, "'\\)' closes nothing"),
    ("N ^ 2", 2, r"'\^' is no operator; write \*\* for powers"),
    ("0,5 * N", 1, "decimals with a point"),
    ("N, R", 1, "one formula at a time"),
    ("N # red", 2, "comment"),
    ("N\n+ R", 1, "breaks the line"),
    ("N \\\n + R", 2, "in one line"),
    ("abs(N)", 0, "'abs' cannot be called"),
    ("R + __import__('os').system('true')", 4, "'__import__' cannot be called"),
    ("N.__class__", 1, "without a dot"),
    ("...", 0, "is not part of a number"),
    ("N[0]", 1, "'\\[' is not allowed"),
    ("[N for N in (1, 2)]", 0, "'\\[' is not allowed"),
    ("{N}", 0, "'{' is not allowed"),
    ("(lambda: N)()", 1, "'lambda' is a word of Python"),
    ("not N", 0, "'not' is a word of Python"),
    ("True", 0, "'True' is a word of Python"),
    ("N < R", 2, "'<' compares"),
    ("N = R", 2, "'=' compares or assigns"),
    ("(N := 1)", 3, "':' compares or assigns"),
    ("'N'", 0, "begins a text"),
    ("f'{N}'", 0, "'f' is unknown"),
    ("N @ R", 2, "'@' is not allowed"),
    ("N % R", 2, "'%' is not allowed"),
    ("~N", 0, "'~' is not allowed"),
    ("N; R", 1, "';' is not allowed"),
    ("N\0", 1, "not allowed"),
    ("1_000 * N", 0, "'1_000' is no number"),
    ("N * 0x10", 4, "'0x10' is no number"),
    ("1j * N", 0, "'1j' is no number"),
    ("2N", 0, "'2N' is no number; .* products with \\*"),
    ("N * 1.2.3", 4, "'1.2.3' is no number"),
    ("N * 1e", 4, "'1e' is no number"),
    ("N * 1e300", 4, "above 1e\\+09"),
    ("N * " + "1" * 400, 4, "above 1e\\+09"),
    ("N * 1e-300", 4, "below 1e-30"),
    ("N / 0", 4, "the denominator is zero"),
    ("N ** R", 5, "the exponent holds the band R"),
    ("N ** (L + B08)", 5, "the exponent holds the band B08"),
    ("N ** 9", 5, "the exponent 9 is 0 or beyond 8"),
    ("N ** -9.5", 5, "the exponent -9.5 is 0 or beyond 8"),
    ("N ** 0", 5, "the exponent 0 is 0"),
    ("N ** 9 ** 9", 10, "the exponent 9 "),
    ("9 ** 9 ** 9 * N", 10, "the exponent 9 "),
    ("N \u2212 R", 2, "MINUS SIGN.* write '-'"),
    ("2 \u00d7 N", 2, "MULTIPLICATION SIGN.* write '\\*'"),
    ("N\u00b2", 1, "SUPERSCRIPT TWO.* write '\\*\\* 2'"),
    ("B08\u00a0- B04", 3, "NO-BREAK SPACE.* write ' '"),
    ("\u0412" + "08 - B04", 0, "CYRILLIC CAPITAL LETTER VE"),
    ("B08 - B0\uff18", 8, "FULLWIDTH DIGIT EIGHT"),
    ("\U0001d40d + R", 0, "MATHEMATICAL BOLD CAPITAL N"),
    ("N + \ud800", 4, "U\\+D800"),
    ("N" + "+N" * 100, 2 * MAX_DEPTH - 1, f"more than {MAX_DEPTH} deep"),
    ("-" * 60 + "N", MAX_DEPTH, f"more than {MAX_DEPTH} deep"),
    ("(" * 60 + "N" + ")" * 60, MAX_DEPTH, f"more than {MAX_DEPTH} deep"),
    ("N" + "**2" * 60, 3 * MAX_DEPTH + 1, f"more than {MAX_DEPTH} deep"),
    ("N" + " + N" * 300, MAX_LENGTH, f"longer than {MAX_LENGTH} characters"),
    ("(" * 100_000, MAX_LENGTH, f"longer than {MAX_LENGTH} characters"),
]

WRONG_AS_A_WHOLE = [
    "N / (1 - 1)",
    "N / (L - L)",
    "N ** NDVI",
    "N ** kNR",
    "N ** (1 - 1)",
    "N ** (2 + 7)",
    "N * 1e9 ** 8",
    "N * (0 - 1) ** 0.5",
    "1 + 1",
    "PAR ** 2",
]
"""Wrong only as a whole, once constants are folded and names are bound."""


def outcome(call: Callable[[], Any]) -> tuple[Any, Any]:
    """Give what a call gives, or the error that it raises for the user."""
    try:
        return call(), None
    except (ValueError, KeyError) as error:
        return None, error


def assert_sentence(error: Exception) -> None:
    """An error says in one sentence what is wrong."""
    text = str(error.args[0]) if isinstance(error, KeyError) else str(error)
    assert 15 < len(text) < 400
    assert text.isprintable()
    assert len(text.split()) >= 4


@pytest.mark.parametrize(("text", "position", "words"), WRONG)
def test_a_mistake_is_said_with_its_place(text: str, position: int, words: str) -> None:
    with pytest.raises(FormulaError, match=words) as caught:
        indices.define("own", text)
    assert caught.value.position == position
    assert caught.value.text == text
    assert_sentence(caught.value)


@pytest.mark.parametrize("text", WRONG_AS_A_WHOLE)
def test_what_is_wrong_only_as_a_whole_is_refused_too(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w{3,} .*\w") as caught:
        indices.define("own", text)
    assert_sentence(caught.value)


def test_a_mistake_survives_the_way_between_processes() -> None:
    with pytest.raises(FormulaError) as caught:
        indices.define("own", "B08 - B99")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.position) == (str(caught.value), caught.value.position)


def test_long_formulas_are_shown_around_the_mistake() -> None:
    text = "N" + " + (R - N)" * 30 + " + B99" + " + (R - N)" * 10
    with pytest.raises(FormulaError, match=r"^'\.\.\.[^']* \+ B99 [^']*\.\.\.': at character 305 "):
        parse(text, SYMBOLS)


def test_near_names() -> None:
    known = ["NDVI", "B08", "B09", "n", "N"]
    assert hint("B99", known) == "; did you mean B09?"
    assert hint("NDIV", known) == "; did you mean NDVI?"
    assert hint("ndvi", known) == "; did you mean NDVI?"
    assert hint("zebra", known) == ""


def test_names_and_bind() -> None:
    tree = parse("(N - R) / (N + L)", ["N", "R", "L"])
    assert names(tree) == ("N", "R", "L")
    bound = bind(tree, {"L": ("const", 1.0), "N": ("name", "B08")})
    assert bound == (
        "/",
        ("-", ("name", "B08"), ("name", "R")),
        ("+", ("name", "B08"), ("const", 1.0)),
    )


# --- Python's own parser as the oracle

OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**"}
PIECES = ["N", "R", "2", ".5", "3.", "1e-3", "(", ")", "+", "-", "*", "/", "**", " "]


def python_tree(node: ast.expr) -> Tree:
    if isinstance(node, ast.Constant):
        return ("const", float(node.value))
    if isinstance(node, ast.Name):
        return ("name", node.id)
    if isinstance(node, ast.UnaryOp):
        tree = python_tree(node.operand)
        return tree if isinstance(node.op, ast.UAdd) else ("neg", tree)
    assert isinstance(node, ast.BinOp), "a call"
    return (OPERATORS[type(node.op)], python_tree(node.left), python_tree(node.right))


def test_formulas_of_the_catalogue_mean_what_they_mean_in_python() -> None:
    for index in indices.INDICES.values():
        known = set(ast.walk(ast.parse(index.formula, mode="eval")))
        allowed = {node.id for node in known if isinstance(node, ast.Name)}
        expected = python_tree(ast.parse(index.formula, mode="eval").body)
        assert parse(index.formula, allowed) == expected


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map("".join))
def test_formulas_mean_what_they_mean_in_python(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's remarks on 2(3) and the like
        try:
            expected = python_tree(ast.parse(text.strip(), mode="eval").body)
        except (SyntaxError, AssertionError, KeyError):  # no expression, a call, //
            expected = None
    found, error = outcome(lambda: parse(text, ["N", "R"]))
    if found is not None or expected is None:
        assert found == expected
    else:  # what Python would only see at work
        assert re.search("exponent|denominator|unknown|number is below", str(error))


# --- trees to text and back, and their values

LEAVES = st.one_of(
    st.sampled_from([*BANDS, *SYMBOLS]).map(lambda name: ("name", name)),
    st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.7, 120.0, 1e-3]).map(lambda n: ("const", n)),
)
EXPONENTS = st.sampled_from([0.5, 1.0, 2.0, 3.0, 1.16, 1 / 3, 8.0, -1.0, -2.0, -0.5, -2.5]).map(
    lambda n: ("const", n) if n > 0 else ("neg", ("const", -n))
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-*/"), inner, inner),
        st.tuples(st.just("neg"), inner),
        st.tuples(st.just("**"), inner, EXPONENTS),
    ),
    max_leaves=12,
)
BINDING = {"+": 1, "-": 1, "*": 2, "/": 2, "neg": 3, "**": 4, "name": 5, "const": 5}


def rendered(tree: Tree, draw: st.DrawFn, least: int = 0) -> str:
    """Write a tree as text, with blanks and needless parentheses here and there."""
    kind, blank = tree[0], draw(st.sampled_from(["", "", " ", "\t"]))
    binding = BINDING[kind]
    if kind in ("name", "const"):
        text = tree[1] if kind == "name" else repr(tree[1])
    elif kind == "neg":
        text = "-" + blank + rendered(tree[1], draw, 3)
    else:
        left, right = (5, 3) if kind == "**" else (binding, binding + 1)
        parts = rendered(tree[1], draw, left), rendered(tree[2], draw, right)
        text = (blank + kind + blank).join(parts)
    if binding < least or draw(st.integers(0, 9)) == 0:
        text = f"({blank}{text}{blank})"
    return text


@st.composite
def texts_of_trees(draw: st.DrawFn) -> tuple[Tree, str]:
    tree = draw(TREES)
    text = rendered(tree, draw)
    assume(names(tree) and len(text) <= MAX_LENGTH and text.count("(") + text.count("-") < 30)
    return tree, text


@settings(max_examples=400, suppress_health_check=[HealthCheck.filter_too_much])
@given(texts_of_trees())
def test_any_formula_is_read_as_it_was_meant(case: tuple[Tree, str]) -> None:
    tree, text = case
    assert parse(text, [*SYMBOLS, *BANDS]) == tree


def sample(seed: int = 0) -> dict[str, np.ndarray]:
    """Bands with clear, dark, negative, missing, infinite and absurd values among them."""
    rng = np.random.default_rng(seed)
    odd = np.array([0, 0, -0.01, 1, np.nan, np.inf, 1e-30, 1e30, -3e38], np.float32)
    usual = rng.uniform(0.01, 0.8, (len(BANDS), 40)).astype(np.float32)
    chosen = np.where(rng.random(usual.shape) < 0.15, rng.choice(odd, usual.shape), usual)
    chosen[:, -1] = np.linspace(0.05, 0.4, len(BANDS))
    return dict(zip(BANDS, chosen, strict=True))


@settings(max_examples=80, suppress_health_check=[HealthCheck.filter_too_much])
@given(texts_of_trees(), st.integers(0, 99))
def test_values_are_those_of_float64_as_far_as_float32_can_hold_them(
    case: tuple[Tree, str], seed: int
) -> None:
    _, text = case
    bands = sample(seed)
    whole, error = outcome(lambda: indices.compute(bands, [indices.define("own", text)]))
    if whole is None:  # a part of numbers alone that is undefined
        assert not isinstance(error, FormulaError)
        return
    found = whole[0]
    expected, off = bounded(tree_of(text), bands)
    lost, sure = np.isnan(expected) & (off == 0), np.isfinite(expected) & np.isfinite(off)
    assert np.isnan(found[lost]).all()
    assert (abs(found - expected)[sure] <= off[sure]).all()


# --- whatever is typed: values, or one sentence


def assert_values_or_a_sentence(text: str) -> None:
    """The law of fuzzing: finite float32 or NaN, else one sentence that points into the text."""
    values, error = outcome(lambda: indices.compute(sample(), [text]))
    if values is not None:
        assert values.dtype == np.float32
        assert not np.isinf(values).any()
        return
    assert_sentence(error)
    if isinstance(error, FormulaError):
        assert error.text == text
        assert 0 <= error.position <= len(text)


WORDS = """
N R B08 B8A L k kNR lambdaN NDVI IBI PAR PPR x B99 ndvi N2 S1 None True lambda if else for in not
and or is await yield import __import__ __class__ __builtins__ _ N.real () [] {} ( ) [ ] { } + - *
/ ** // % @ ~ ^ & | << -> := == < >= = , ; : . ... ' " ` # \\ $ ? ! 0 1 2 0.5 .5 1e5 1e-5 1e999
9**9**9 8**8 1_000 0x10 0b1 1j 007 1e 1.2.3 abs(N) eval('1') open('x') N[0] N[:] N(R) (N,R)
[N;for;N;in;R] (lambda:N)() f'{N}' b'x' r'x' (N:=1) *N **N
"""
BLANKS = [" ", "\t", "\n", "\r", "\f", "\0", "\\\n", "\u00a0", "\u2212", "\uff2e", "\u0430"]
NEAR_FORMULA = [word.replace(";", " ") if len(word) > 1 else word for word in WORDS.split()]
NEAR_FORMULA += BLANKS
GENTLE = ["N", "R", "B08", "L", "2", "0.5", "(", ")", "(", ")", "+", "-", "*", "/", "**", " "]


def nested(core: str) -> st.SearchStrategy[str]:
    """Repeat what opens, closes, signs or chains more often than can be borne."""
    ends = [("(", ")"), ("-", ""), ("(", ""), ("", ")"), ("", "+N"), ("", "**2"), ("[", "]")]
    ends += [("-(", ")"), ("2**", ""), ("(N+", ")"), ("1/", ""), ("", "-IBI"), ("lambda:", "")]
    return st.builds(
        lambda pair, times: pair[0] * times + core + pair[1] * times,
        st.sampled_from(ends),
        st.one_of(st.integers(1, 60), st.just(249), st.just(20_000)),
    )


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Change a formula of the catalogue in one to four places."""
    text = draw(st.sampled_from(FORMULAS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(start + 4, len(text))))
        other = st.one_of(st.sampled_from(NEAR_FORMULA + GENTLE), st.text(max_size=2))
        text = text[:start] + draw(st.one_of(st.just(""), other)) + text[stop:]
    return text


TYPED = st.one_of(
    st.text(max_size=40),
    st.text("NRBL0128.+-*/() e_", max_size=30),
    st.lists(st.sampled_from(NEAR_FORMULA), max_size=12).map("".join),
    st.lists(st.sampled_from(GENTLE), max_size=14).map("".join),
    st.sampled_from(["N", "NDVI", "2", "B99"]).flatmap(nested),
    mutated(),
)


@settings(max_examples=400)
@given(TYPED)
def test_whatever_is_typed_gives_values_or_a_sentence(text: str) -> None:
    assert_values_or_a_sentence(text)


@pytest.mark.long
@settings(max_examples=30_000, suppress_health_check=list(HealthCheck))
@given(TYPED)
def test_whatever_is_typed_gives_values_or_a_sentence_in_a_long_run(text: str) -> None:
    assert_values_or_a_sentence(text)


@settings(max_examples=400)
@given(TYPED)
def test_all_before_a_mistake_could_have_gone_on(text: str) -> None:
    known = [*SYMBOLS, *BANDS, "L", "NDVI", "IBI"]
    _, error = outcome(lambda: parse(text, known))
    if error is None or re.search("longer than|deep;", error.reason) or not text.isascii():
        return  # these are known before, or after, what stands there is read
    first = text[: error.position]
    _, before = outcome(lambda: parse(first, known))
    if before is not None:
        assert before.position == len(first) or "never closed" in before.reason


@contextmanager
def audited() -> Iterator[list[str]]:
    """Collect what the interpreter reports to auditors: code compiled or run, files, processes."""
    seen: list[str] = []
    listening = [True]

    def listen(event: str, _: object) -> None:
        if listening[0]:
            seen.append(event)

    sys.addaudithook(listen)  # stays for good, so it is made deaf
    try:
        yield seen
    finally:
        listening[0] = False


def test_reading_runs_nothing() -> None:
    texts = [text for text, _, _ in WRONG] + FORMULAS
    with audited() as seen:
        eval("1")
    assert "compile" in seen
    with audited() as seen:
        for text in texts:
            outcome(lambda text=text: parse(text, [*SYMBOLS, "L"]))
    assert set(seen) <= {"object.__getattr__"}


def test_the_largest_formulas_are_computed() -> None:
    """Length bounds a formula even when the names in it stand for whole formulas."""
    bands = sample()
    many = "+".join("(" + "+".join(["IBI"] * 9) + ")" for _ in range(13))
    chain = "IBI" + "+IBI" * (MAX_DEPTH - 1)
    deep = "(" * (MAX_DEPTH - 1) + "N" + ")" * (MAX_DEPTH - 1)
    powers = "*".join(f"N**.{n}" for n in range(10, 9 + MAX_DEPTH))
    tower = "(1-kEVI*" * 19 + "N" + ")" * 19
    for text in (many, chain, deep, powers, tower, f"{deep:>{MAX_LENGTH}}"):
        assert len(text) <= MAX_LENGTH
        assert np.isfinite(indices.compute(bands, [text])[0, -1])
