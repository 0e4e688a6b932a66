"""What the Dockerfile promises, read as data."""

from __future__ import annotations

import json
import re

from tests.containers.conftest import ROOT

Instructions = list[tuple[str, str]]


def final_stage(dockerfile: Instructions) -> Instructions:
    last = max(at for at, (word, _) in enumerate(dockerfile) if word == "FROM")
    return dockerfile[last:]


def test_it_is_built_in_stages_on_the_slim_python(dockerfile: Instructions) -> None:
    stages = [rest for word, rest in dockerfile if word == "FROM"]
    assert len(stages) == 2
    assert all(stage.startswith("python:${PYTHON}-slim") for stage in stages)
    assert ("ARG", "PYTHON=3.13") in dockerfile


def test_it_runs_as_a_numeric_user_that_is_not_root(dockerfile: Instructions) -> None:
    users = [rest for word, rest in final_stage(dockerfile) if word == "USER"]
    assert len(users) == 1
    assert all(int(number) >= 10000 for number in users[0].split(":"))


def test_the_user_of_the_image_is_the_one_the_secrets_are_made_for(dockerfile: Instructions) -> None:
    from worker.container_secrets import REGROW

    assert ("USER", f"{REGROW}:{REGROW}") in final_stage(dockerfile)


def test_the_command_gets_its_signals_itself(dockerfile: Instructions) -> None:
    commands = [rest for word, rest in final_stage(dockerfile) if word in {"CMD", "ENTRYPOINT"}]
    assert commands
    assert all(isinstance(json.loads(command), list) for command in commands)


def test_nothing_is_installed_that_is_not_pinned_by_its_hash(dockerfile: Instructions) -> None:
    installs = [rest for word, rest in dockerfile if word == "RUN" and "pip" in rest and " install " in rest]
    assert installs
    for install in installs:
        assert "--require-hashes" in install or "--no-index" in install, install
    for name in re.findall(r"requirements/[a-z]+\.txt", " ".join(installs)):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "--hash=sha256:" in text
        assert not re.search(
            r"^\s*(-i|--index-url|--extra-index-url|--find-links|-f)\b|://", text, flags=re.MULTILINE
        )


def test_the_final_stage_installs_nothing(dockerfile: Instructions) -> None:
    runs = " ".join(rest for word, rest in final_stage(dockerfile) if word == "RUN")
    assert not re.search(r"\b(pip|apt-get|apt|gcc|curl|wget)\b", runs)


def test_no_secret_can_come_in_through_an_argument(dockerfile: Instructions) -> None:
    named = " ".join(rest for word, rest in dockerfile if word in {"ARG", "ENV"})
    assert not re.search("PASSWORD|SECRET|API_KEY|TOKEN", named)


def test_the_build_context_is_what_is_listed_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in.isdisjoint({"secrets", "var", ".git", ".env", ".venv"})
    assert all((ROOT / name).exists() for name in let_in)


def test_labels_say_what_the_image_is(dockerfile: Instructions) -> None:
    labels = " ".join(rest for word, rest in final_stage(dockerfile) if word == "LABEL")
    for name in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{name}=" in labels


def test_the_version_on_the_label_is_the_package_s(dockerfile: Instructions) -> None:
    from regrow.version import __version__

    assert ("ARG", f"VERSION={__version__}") in dockerfile
