"""The skill: one page, whose commands and tools exist as it shows them."""

from __future__ import annotations

import re
import shlex

from lobwife_client.cli import _parser

from lobwife.mcp.tools import TOOLS
from tests.support.installation import ROOT

TEXT = (ROOT / "clients" / "skill" / "SKILL.md").read_text()


def test_every_command_that_it_shows_is_understood() -> None:
    [block] = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [shlex.split(line) for line in block.splitlines()]
    assert len(lines) > 5
    for program, *arguments in lines:
        assert program == "lobwife-agent"
        _parser().parse_args(arguments)


def test_the_commands_and_tools_that_it_names_are_those_that_there_are() -> None:
    table = dict(re.findall(r"^\| [^|]+ \| `(\w+)` \|(.*)\|$", TEXT, re.MULTILINE))
    assert table.keys() == TOOLS.keys()
    for cell in table.values():
        for command in re.findall(r"`lobwife-agent (\w+)", cell):
            assert _parser().parse_args([command, *(["x"] if command != "task" else [])]).function


def test_it_is_one_page_that_programs_of_agents_recognize() -> None:
    assert len(TEXT) < 5_000
    front = TEXT.split("---")[1]
    assert re.search(r"^name: [a-z-]{1,64}$", front, re.MULTILINE)
    assert re.search(r"^description: .{50,1024}$", front, re.MULTILINE)
