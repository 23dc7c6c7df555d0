"""Registering checks."""

from __future__ import annotations

import functools

import pytest

from dockerflow_wsgi import CheckRegistry


def fine():
    """Return no message."""
    return []


def about(_obj):
    """Return no message about an object."""
    return []


def make_check(module_name="app", count=0):
    """Execute the definition of a check, as an application factory does."""

    def storage():
        return [count]

    storage.__module__ = module_name
    return storage


class TestNames:
    """Each check has a name."""

    def test_a_check_is_named_after_its_function_or_by_name(self):
        """A check has its function's name or a given one; the order is that of registration."""
        registry = CheckRegistry()
        registry.check(fine)
        registry.check(name="custom")(fine)
        registry.check(fine, name="third")
        registry.check()(about)
        assert registry.names == ("fine", "custom", "third", "about")
        assert repr(registry) == "<CheckRegistry: fine, custom, third, about>"

    @pytest.mark.parametrize("wrong", [5, "fine", functools.partial(about, 1)])
    def test_an_object_without_call_or_name_is_refused(self, wrong):
        """A check that cannot be called, or has no name, is refused at its registration."""
        with pytest.raises(TypeError, match=r"a function, or a callable with name=\.\.\., not a "):
            CheckRegistry().check(wrong)

    def test_a_callable_without_a_name_is_registered_under_a_given_one(self):
        """A partial object is registered under the name that is given."""
        registry = CheckRegistry()
        registry.check(functools.partial(about, 1), name="partial")
        assert registry.names == ("partial",)

    def test_a_taken_name_is_refused(self):
        """The error has both functions, and the way to register the second one."""
        registry = CheckRegistry()
        registry.check(fine)
        with pytest.raises(ValueError, match=r"'fine' is registered already.*name=\.\.\."):
            registry.check(about, name="fine")
        assert registry.functions == {"fine": fine}

    def test_errors_show_no_password(self):
        """Credentials in the ``repr()`` of a check's object are redacted in the error."""

        class Client:
            def __repr__(self):
                return "Client('redis://:s3cr3t@h')"

        registry = CheckRegistry()
        registry.init_check(about, Client())
        with pytest.raises(ValueError, match="registered already") as caught:
            registry.init_check(about, Client())
        assert "s3cr3t" not in str(caught.value)
        assert ":***@h" in str(caught.value)


class TestRegisteredAgain:
    """A check can be registered again."""

    def test_the_same_function_again_changes_nothing(self):
        """The same function can be registered twice, as by a module that is imported twice."""
        registry = CheckRegistry()
        registry.check(fine)
        registry.check(fine)
        assert registry.names == ("fine",)

    def test_the_same_check_of_the_same_object_again_changes_nothing(self):
        """The same check of another object needs another name."""
        registry = CheckRegistry()
        obj = object()
        registry.init_check(about, obj)
        registry.init_check(about, obj)
        assert registry.names == ("about",)
        with pytest.raises(ValueError, match="registered already"):
            registry.init_check(about, object())
        registry.init_check(about, object(), name="about_another")
        assert registry.names == ("about", "about_another")

    def test_bound_methods_of_two_objects_are_two_checks(self):
        """A bound method can be registered twice; that of another object needs another name."""

        class Store:
            def reachable(self):
                return []

        registry, one, two = CheckRegistry(), Store(), Store()
        registry.check(one.reachable)
        registry.check(one.reachable)
        with pytest.raises(ValueError, match="registered already"):
            registry.check(two.reachable)

    def test_the_same_definition_executed_again_replaces_the_earlier_one(self):
        """An application factory that is called twice registers its latest check."""
        registry = CheckRegistry()
        first, second = make_check(), make_check(count=1)
        registry.check(first)
        registry.check(second)
        assert registry.functions == {"storage": second}

    def test_another_definition_of_the_name_is_refused(self):
        """Functions of another module, and lambdas, do not replace a registered check."""
        registry = CheckRegistry()
        registry.check(make_check())
        registry.check(lambda: [], name="short")
        for function, name in ((make_check("other"), "storage"), (lambda: [], "short")):
            with pytest.raises(ValueError, match="registered already"):
                registry.check(function, name=name)
