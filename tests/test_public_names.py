"""The names of the package's front door: each is documented with an example that runs, and told of in the README."""

import ast
import doctest
import inspect
import re
from pathlib import Path

import pytest

import induction_dynamics

README = (Path(__file__).parents[1] / "README.md").read_text()
HOMES = induction_dynamics._HOMES


def without_example(names):
    """Those of the public names that are a class or a function and have no example in their own docstring."""
    finder = doctest.DocTestFinder(recurse=False, exclude_empty=False)
    objects = {name: getattr(induction_dynamics, name) for name in names}
    return [
        name
        for name, thing in objects.items()
        if (inspect.isclass(thing) or inspect.isroutine(thing))
        and not any(found.examples for found in finder.find(thing, name))
    ]


def missing_in(text, names):
    """Those of the names that a text does not mention as code: `name`, or with arguments, `name(...)`."""
    return [name for name in names if not re.search(rf"`{re.escape(name)}[`(]", text)]


def test_each_has_an_example():
    assert without_example(HOMES) == []


def test_a_missing_example_is_found(monkeypatch):
    monkeypatch.setattr(induction_dynamics.Task, "__doc__", "N item-label pairs and a query.")
    assert "Task" in without_example(HOMES)


def test_each_is_in_the_readme():
    assert missing_in(README, HOMES) == []


def test_a_missing_mention_is_found():
    assert missing_in("`Task`, `sweep(points)` and idyn.train", ["Task", "sweep", "train", "Tasks"]) == [
        "train",
        "Tasks",
    ]


def test_each_is_at_home_where_it_says():
    for name, home in HOMES.items():
        thing = getattr(induction_dynamics, name)
        if inspect.isclass(thing) or inspect.isroutine(thing):
            assert (thing.__module__, thing.__name__) == (f"{induction_dynamics.__name__}.{home}", name)
        assert name in dir(induction_dynamics)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        induction_dynamics.nothing  # noqa: B018


def test_type_checkers_see_the_same_names():
    """The imports under TYPE_CHECKING are those of `_HOMES`, each under its own name."""
    tree = ast.parse(Path(str(induction_dynamics.__file__)).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.asname == alias.name  # else it is no public name to a type checker
            seen[alias.name] = str(node.module).removeprefix("induction_dynamics.")
    assert seen == HOMES
    assert list(HOMES) == sorted(HOMES)
