"""Registering checks."""

from __future__ import annotations

import functools

import pytest

from dockerflow_wsgi import CheckRegistry


def fine():
    """Find nothing."""
    return []


def about(_obj):
    """Find nothing about an object."""
    return []


def test_a_check_is_named_after_its_function_or_by_name():
    """With and without parentheses, in the order of registration."""
    registry = CheckRegistry()
    registry.check(fine)
    registry.check(name="custom")(fine)
    registry.check(fine, name="third")
    registry.check()(about)
    assert registry.names == ("fine", "custom", "third", "about")
    assert repr(registry) == "<CheckRegistry: fine, custom, third, about>"


def test_a_taken_name_is_refused():
    """The error names both functions and the way out."""
    registry = CheckRegistry()
    registry.check(fine)
    with pytest.raises(ValueError, match=r"'fine' is registered already.*name=\.\.\."):
        registry.check(about, name="fine")
    assert registry.functions == {"fine": fine}


def test_the_same_function_again_changes_nothing():
    """A module imported twice does no harm."""
    registry = CheckRegistry()
    registry.check(fine)
    registry.check(fine)
    assert registry.names == ("fine",)


def test_the_same_check_of_the_same_object_again_changes_nothing():
    """Of another object it is another check."""
    registry = CheckRegistry()
    obj = object()
    registry.init_check(about, obj)
    registry.init_check(about, obj)
    assert registry.names == ("about",)
    with pytest.raises(ValueError, match="registered already"):
        registry.init_check(about, object())
    registry.init_check(about, object(), name="about_another")
    assert registry.names == ("about", "about_another")


def test_bound_methods_of_two_objects_are_two_checks():
    """Each access makes a new method object, but it is the same method."""

    class Store:
        def reachable(self):
            return []

    registry, one, two = CheckRegistry(), Store(), Store()
    registry.check(one.reachable)
    registry.check(one.reachable)
    with pytest.raises(ValueError, match="registered already"):
        registry.check(two.reachable)


@pytest.mark.parametrize(
    ("wrong", "text"), [(5, "must be a function"), ("fine", "must be a function")]
)
def test_what_cannot_be_called_is_refused(wrong, text):
    """At registration, where the mistake is, and not at the first heartbeat."""
    with pytest.raises(TypeError, match=text):
        CheckRegistry().check(wrong)


def test_a_check_without_a_name_needs_one():
    """A partial object has no name."""
    registry = CheckRegistry()
    with pytest.raises(TypeError, match="name="):
        registry.check(functools.partial(about, 1))
    registry.check(functools.partial(about, 1), name="partial")
    assert registry.names == ("partial",)


def test_a_check_can_be_removed():
    """Removing an unknown check is an error that lists the known names."""
    registry = CheckRegistry()
    registry.check(fine)
    registry.remove("fine")
    assert registry.names == ()
    with pytest.raises(KeyError, match="no check is named 'fine'"):
        registry.remove("fine")


def test_errors_show_no_password():
    """An object of a check may show its URL."""

    class Client:
        def __repr__(self):
            return "Client('redis://:s3cr3t@h')"

    registry = CheckRegistry()
    registry.init_check(about, Client())
    with pytest.raises(ValueError, match="registered already") as caught:
        registry.init_check(about, Client())
    assert "s3cr3t" not in str(caught.value)
    assert ":***@h" in str(caught.value)


def make_check(module_name="app", count=0):
    """Execute the definition of a check, as an application factory does."""

    def storage():
        return [count]

    storage.__module__ = module_name
    return storage


def test_the_same_definition_executed_again_replaces_the_earlier_one(listen):
    """An application factory that is called twice registers its latest check."""
    log = listen("dockerflow_wsgi.checks")
    registry = CheckRegistry()
    first, second = make_check(), make_check(count=1)
    registry.check(first)
    registry.check(second)
    assert registry.functions == {"storage": second}
    assert "'storage' is replaced" in log[0].getMessage()


def test_another_definition_of_the_name_is_refused():
    """Functions of another module, and lambdas, are other definitions."""
    registry = CheckRegistry()
    registry.check(make_check())
    registry.check(lambda: [], name="short")
    for function, name in ((make_check("other"), "storage"), (lambda: [], "short")):
        with pytest.raises(ValueError, match="registered already"):
            registry.check(function, name=name)
