"""Reads the help of commands (src/cli/command_text.h) into paragraphs, options and arguments."""

import dataclasses
import re


@dataclasses.dataclass
class Option:
    names: list  # ["-c", "--config"]
    value: str  # what follows it, such as FILE; empty for a flag
    description: str

    @property
    def long(self):
        return self.names[-1]


@dataclasses.dataclass
class Item:
    """A line of a list: options, or the description of an argument."""

    term: str
    description: str


@dataclasses.dataclass
class Command:
    name: str
    summary: str
    synopses: list = dataclasses.field(default_factory=list)
    blocks: list = dataclasses.field(default_factory=list)  # each a paragraph (str) or a list of Item
    options: list = dataclasses.field(default_factory=list)
    positions: list = dataclasses.field(default_factory=list)  # for each argument the set of words of the synopses
    commands: list = dataclasses.field(default_factory=list)


# "  -c, --config FILE   the configuration file"; the description may be missing.
ITEM = re.compile(r"^ {2,6}(\S+(?: \S+)*)(?: {2,}(\S.*))?$")
CONTINUATION = re.compile(r"^ {8,}(\S.*)$")
OPTION = re.compile(r"^(?:(-\w), )?(--[\w-]+|-\w)(?: (\S+))?$")


def read_item_options(item):
    """The options of an item: "-c, --config FILE" is one with two names, "--id ID, --key KEY" are two."""
    parts, options, letter = item.term.split(", "), [], []
    for part in parts:
        match = OPTION.match(part)
        if match is None:
            return options
        if re.fullmatch(r"-\w", part):
            letter = [part]
            continue
        options.append(Option(letter + [match[2]], match[3] or "", item.description))
        letter = []
    return options


def read_help(command, text):
    paragraph = []

    def end_paragraph():
        if paragraph:
            command.blocks.append(" ".join(paragraph))
            paragraph.clear()

    in_synopsis = True
    for line in text.splitlines():
        if in_synopsis and (line.startswith("usage: ") or line.startswith("       curlew ")):
            command.synopses.append(line[7:])
            continue
        in_synopsis = False
        item, continuation = ITEM.match(line), CONTINUATION.match(line)
        last = command.blocks[-1] if command.blocks else None
        if not line:
            end_paragraph()
        elif continuation and isinstance(last, list) and not paragraph:
            last[-1].description = (last[-1].description + " " + continuation[1]).strip()
        elif item:
            end_paragraph()
            if not isinstance(last, list):
                last = []
                command.blocks.append(last)
            last.append(Item(item[1], item[2] or ""))
        else:
            paragraph.append(line.strip())
    end_paragraph()
    for block in command.blocks:
        if isinstance(block, list):
            for item in block:
                command.options += read_item_options(item)


def read_positions(command, prefix):
    """The arguments in the synopses, without the options and their values."""
    for synopsis in command.synopses:
        position = 0
        rest = synopsis[len(prefix) :]
        rest = re.sub(r"\[(--?[\w-]+)( \S+?)?\](\.\.\.)?", "", rest)  # [--config FILE]
        rest = re.sub(r"--[\w-]+ [^\s\]]+", "", rest)  # --from FILE
        for word in rest.split():
            repeats = word.endswith("...")
            word = word.replace("...", "").strip("[]")
            if word == "OPTIONS":
                continue
            if len(command.positions) == position:
                command.positions.append({"words": [], "repeats": repeats})
            command.positions[position]["words"] += word.split("|")
            position += 1


def read_commands(tables, prefix="curlew"):
    commands = []
    for table in tables:
        command = Command(table["name"], table["summary"])
        name = f"{prefix} {command.name}"
        read_help(command, table["help"])
        read_positions(command, name)
        command.commands = read_commands(table["commands"], name)
        if not any(option.long == "--help" for option in command.options):
            command.options.append(Option(["-h", "--help"], "", "show this help"))
        commands.append(command)
    return commands
