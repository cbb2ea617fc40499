"""Settings as text for a terminal and as one page of the documentation."""

import textwrap
from collections.abc import Iterable

from bagpiper_jax.manual.jobs import Job, job, job_of_class
from bagpiper_jax.manual.settings import Group, Setting

_WIDTH = 110
_HOW = (
    "Each setting is bound in a gin file as NAME.FIELD = VALUE, or here as --gin.NAME.FIELD=VALUE. One whose type is "
    "listed below is built with @: {example}. A field without = must be bound."
)


def help_of(name: str) -> str:
    """What `bagpiper NAME --help` prints: how to call the job, its flags, and each setting that it can reach."""
    return _text(job(name))


def help_of_class(module: str, cls: str, command: str, text: str) -> str:
    """The same of a command that loads a class: its module and name, how it is called, and what it does."""
    return _text(job_of_class(module, cls, command, text))


def _text(found: Job) -> str:
    usage = f"usage: {found.command} [-h] [--gin_file=FILE …] [--gin.NAME.FIELD=VALUE …]"
    how = textwrap.fill(_HOW.format(example=_example(found.groups)), _WIDTH)
    return "\n\n".join([usage, found.text, *_flags(found), how, *map(_section, found.groups)])


def _example(groups: Iterable[Group]) -> str:
    for group in groups:
        for setting in group.settings:
            if setting.nested:
                return f"{group.name}.{setting.name} = @{setting.nested[0]}()"
    return "NAME.FIELD = @TYPE()"


def _flags(found: Job) -> list[str]:
    if not found.flags:
        return []
    return ["flags:\n" + "\n".join(_entry(flag, help) for flag, help in found.flags.items())]


def _entry(head: str, text: str) -> str:
    lines = [
        textwrap.fill(head, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
    ]
    if text:
        lines.append(textwrap.indent(textwrap.fill(text, _WIDTH - 6), "      "))
    return "\n".join(lines)


def _section(group: Group) -> str:
    entries = [_entry(_head(setting), setting.meaning) for setting in group.settings]
    return "\n".join([textwrap.fill(f"{group.name}: {_first(group.summary)}", _WIDTH), *entries])


def _head(setting: Setting) -> str:
    return f"{setting.name}: {setting.type}" + (
        f" = {setting.default}" if setting.default is not None else ""
    )


def _first(summary: str) -> str:
    """The first paragraph in one line."""
    return " ".join(summary.partition("\n\n")[0].split())


def reference(jobs: Iterable[str]) -> str:
    """The page of all settings, in Markdown: each job with its classes, and each class once."""
    found = [job(name) for name in jobs]
    classes = {group.name: group for each in found for group in each.groups}
    parts = [
        "# Settings",
        "What `bagpiper JOB --help` prints, on one page. "
        + _HOW.format(example="`TrainConfig.model = @BagpiperConfig()`"),
        "## Jobs",
        *map(_job, found),
        "## Classes",
        *(_markdown(classes[name]) for name in sorted(classes)),
    ]
    return "\n\n".join(parts) + "\n"


def _job(found: Job) -> str:
    links = ", ".join(f"[{group.name}](#{group.name.lower()})" for group in found.groups)
    flags = [f"- `{flag}`: {help}" for flag, help in found.flags.items()]
    fenced = f"```text\n{found.text}\n```"
    return "\n\n".join([f"### {found.command}", fenced, *(["\n".join(flags)] if flags else []), links])


def _markdown(group: Group) -> str:
    lines = [f"- `{_head(setting)}`: {setting.meaning}" for setting in group.settings]
    return "\n\n".join([f"### {group.name}", _first(group.summary), "\n".join(lines)])
