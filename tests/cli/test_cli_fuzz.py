"""Any words at all: an answer or one sentence, never a traceback."""

import contextlib
import importlib
import io
from unittest import mock

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from induction_dynamics.cli import COMMANDS, main
from induction_dynamics.cli.parsing import flags

OPTIONS = sorted({flag for command in COMMANDS.values() for flag in flags(command.options)} - {"--output"})
VALUES = st.sampled_from(
    "0 1 4 8 -3 2.5 nan inf -inf 1e400 1e-400 x circuit subspace full last uniform isotropic loss alpha_3 180 90 "
    "cpu -- - -h --help --version = --=3 -1 0.5 1_0 7 10 999999999999 --no-json simulate".split()
)
WORDS = st.one_of(
    st.sampled_from(OPTIONS),
    st.sampled_from(OPTIONS),
    VALUES,
    VALUES,
    st.builds("{}={}".format, st.sampled_from(OPTIONS), VALUES),
    st.text(max_size=6),
)


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from([*COMMANDS, *COMMANDS, "x", ""]), words=st.lists(WORDS, max_size=7), good=st.booleans())
def test_any_words(pretended, command, words, good):
    if good:
        words = ["--context-length", "4", *words]
    out, err = io.StringIO(), io.StringIO()
    nothing = mock.patch.object(
        importlib.import_module("induction_dynamics.cli.sweep"), "_writers", lambda document: {}
    )
    with nothing, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([command, *words])
    assert status in (0, 2)
    if status == 2:
        assert out.getvalue() == ""
        assert err.getvalue().count("\n") == 1 and err.getvalue().strip(), err.getvalue()
    else:
        assert err.getvalue() == ""
        assert out.getvalue()
