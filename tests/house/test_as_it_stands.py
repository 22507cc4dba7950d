"""Every command and every snippet that the documents show is run as it stands, on files made for it.

``as_it_stands.txt`` lists the commands of each document, each after the word of :mod:`hows` that says how it is run.  A
document that gains a command, or loses one, fails here until the list says so.
"""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import reader
import shown
from conftest import ROOT
from hows import HOWS
from reader import Folder
from shortened import few_scenes, run
from shown import Shown
from sigmascope.commands import COMMANDS

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers and transformers about themselves

LIST = Path(__file__).with_name("as_it_stands.txt").read_text(encoding="utf-8")
SNIPPETS = {
    "README.md": ("few",),
    "docs/guides/bands.md": ("few",),
    "docs/guides/bias.md": ("few",),
    "docs/guides/continuous.md": ("few",),
    "docs/guides/filtering.md": ("few", "few"),
    "docs/guides/images.md": ("few",),
    "docs/guides/model.md": ("few",),
    "docs/guides/sampling.md": ("few", "all"),
    "docs/pretrained.md": ("few",),
    "docs/start.md": ("few",),
}
"""The snippets of Python of each document, and whether they meet few of the scenes or all."""
NEEDED: dict[str, dict[str, Callable[[Path], None]]] = {
    "docs/start.md": {"spec.toml": reader.spec_of_my_images},
    "docs/pretrained.md": {"my-images.npz": reader.my_digits},
    "sigmascope compare": {"studies/one": reader.study, "studies/two": reader.study},
    "sigmascope advise": {"studies/scenes": reader.study},
}
"""What the commands of a document find in their folder, beside what a name alone says."""
PASSED: dict[str, Path] = {}
"""Commands that need nothing of a document and have passed in another, with the working folder in which they ran."""


def listed(text: str = LIST) -> dict[str, dict[str, str]]:
    """Of each document, its commands and how each is run."""
    found: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line.startswith(" "):
            how, command = line.split(maxsplit=1)
            found[document][command] = how
        elif line:
            document = line
            found[document] = {}
    return found


def all_shown() -> dict[str, list[Shown]]:
    """What every document, every help and every program's docstring shows."""
    found = {name: shown.of_page(text) for name, text in shown.documents().items()}
    found |= {f"sigmascope {name}": shown.of_help(shown.help_of(name)) for name in COMMANDS}
    return found | {name: shown.of_script(path) for name, path in shown.scripts().items()}


SHOWN = all_shown()


def commands(of: list[Shown]) -> list[Shown]:
    """The commands, each where it stands first."""
    first: dict[str, Shown] = {}
    for s in of:
        if s.kind == "command":
            first[s.text] = s if s.output or s.text not in first else first[s.text]
    return list(first.values())


def unlisted(found: dict[str, list[Shown]], held: dict[str, dict[str, str]]) -> list[str]:
    """Where documents and list differ."""
    off = []
    for name in sorted({*found, *held}):
        here = [s.text for s in commands(found.get(name, []))]
        off += [f"{name} shows {c!r}: add it to as_it_stands.txt" for c in here if c not in held.get(name, {})]
        off += [
            f"{name} does not show {c!r}: take it from as_it_stands.txt" for c in held.get(name, {}) if c not in here
        ]
    return off


def test_the_list_is_what_the_documents_show():
    assert not unlisted(SHOWN, listed())
    assert {how for of in listed().values() for how in of.values()} == set(HOWS)
    python = {name: sum(s.kind == "python" for s in of) for name, of in SHOWN.items()}
    assert {name: n for name, n in python.items() if n} == {name: len(of) for name, of in SNIPPETS.items()}


def test_a_command_more_or_less_is_noticed():
    page = shown.of_page("Say `make study`.\n\n```sh\nsigmascope check --fast\n```\n")
    held = {"x.md": {"make study": "study", "sigmascope check": "checked"}}
    assert unlisted({"x.md": page}, held) == [
        "x.md shows 'sigmascope check --fast': add it to as_it_stands.txt",
        "x.md does not show 'sigmascope check': take it from as_it_stands.txt",
    ]
    assert unlisted({}, held)
    assert unlisted({"y.md": page}, {"y.md": {s.text: "whole" for s in page}}) == []


@pytest.mark.parametrize(
    ("text", "output", "how", "words"),
    [
        ("sigmascope translate --model diffusers:ddpm --step 20/50", "SNR, decibels", "whole", "the document shows"),
        ("sigmascope translate --model diffusers:ddpm --setp 20/50", "", "whole", "status 2"),
        ("sigmascope translate --model diffusers:ddpm --step 20/50 --out x", "", "whole", "status 2"),
        ("python benchmarks/hierarchy.py --json x.json", "", "tree", "status 2"),
        ("pip install 'sigmascope[everything]'", "", "network", "no extra everything"),
        ("pip install torch==1.0", "", "network", "constraints.txt does not say torch==1.0"),
        ("pip uninstall torch", "", "network", "no installation"),
    ],
)
def test_what_is_wrong_with_a_command_is_said(text, output, how, words, tmp_path):
    assert words in complaint(Shown("command", text, output), Folder(tmp_path), how)


def test_what_a_command_promises_is_looked_for(tmp_path, monkeypatch):
    """The names come from the help: a study that leaves nothing behind is noticed."""
    text = "sigmascope study my-images.npz --attributes digit --out x"
    assert promised(text) == ["x/report.html", "x/figures/", "x/onset.csv", "x/results.nc", "x/spec.toml"]
    assert "y/classifier.safetensors" in promised("sigmascope train scenes --classifier-steps 3 --out y")
    assert "y/classifier.safetensors" not in promised("sigmascope train scenes --out y")
    assert promised("python x.py --json a/b.json") == ["a/b.json"]
    assert promised("python x.py > a.csv") == ["a.csv"]
    monkeypatch.setattr(COMMANDS["study"], "run", lambda command: 0)
    assert "leaves no x/report.html" in complaint(Shown("command", text), Folder(tmp_path), "study")


@pytest.mark.parametrize("name", [name for name, of in SHOWN.items() if commands(of)])
def test_commands(name, tmp_path, monkeypatch):
    """In the document's order, in one folder."""
    few_scenes(monkeypatch)
    folder, here, off = Folder(tmp_path, NEEDED.get(name)), commands(SHOWN[name]), []
    for s in here:
        if s.text in PASSED:
            if leads_on(s, here):
                folder.provide(s.text)
                shutil.copytree(PASSED[s.text] / result_of(s), folder.path / result_of(s), dirs_exist_ok=True)
            continue
        wrong = complaint(s, folder, listed()[name][s.text])
        off += [f"{s.text}\n    {wrong}"] if wrong else []
        if not wrong and not set(NEEDED.get(name, ())) & set(s.text.split()):
            PASSED[s.text] = folder.path
    assert not off, "\n".join(off)


def leads_on(s: Shown, here: list[Shown]) -> bool:
    """Whether another command of the document takes what this one makes."""
    return any(result_of(s) in x.text.split() for x in here if x.text != s.text)


def result_of(s: Shown) -> str:
    """The folder that a command makes, if it makes one."""
    made = re.search(r"--out (\S+)", "--out studies/scenes" if s.text == "make study" else s.text)
    return made[1] if made else ""


@pytest.mark.parametrize("name", SNIPPETS)
def test_snippets(name, tmp_path, monkeypatch):
    """In the document's order, one after the other, as in one session."""
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {"__name__": "__main__"}
    for s, scenes in zip((s for s in SHOWN[name] if s.kind == "python"), SNIPPETS[name], strict=True):
        with pytest.MonkeyPatch.context() as patch:
            if scenes == "few":
                few_scenes(patch)
            exec(compile(s.text, f"{name}, line {s.line}", "exec"), session)
        for file in re.findall(r'savefig\("(.+?)"\)', s.text):
            assert (tmp_path / file).stat().st_size > 10_000


def test_options_exist():
    """Also those that stand alone in the text: of the command that is named with them, or of any."""
    of = {name: set(re.findall(r"--[a-z][a-z-]*", shown.help_of(name))) for name in COMMANDS}
    of |= {name: shown.options_of(path) for name, path in shown.scripts().items()}
    for name, found in SHOWN.items():
        for s in found:
            if s.kind == "option":
                first = s.text.split()[0]
                known = of[first] if not first.startswith("--") else set.union(*of.values())
                assert set(re.findall(r"(?<!\S)--[a-z][a-z-]*", s.text)) <= known, f"{name}, line {s.line}: {s.text}"
            assert s.kind != "name" or s.text.split()[1] in {*COMMANDS, "--version"}, s.text


def test_names_exist():
    """What the documents call by its full name is there."""
    for name, text in shown.documents().items():
        for full in set(re.findall(r"`(sigmascope(?:\.\w+)+)", text)):
            assert shown.is_there(full), f"{name}: {full}"
    assert not shown.is_there("sigmascope.adapters.Forein")


@pytest.mark.parametrize("name", shown.scripts())
def test_programs_explain_themselves(name, tmp_path):
    """`--help` says what the program is for, and its docstring shows no option that it does not have."""
    done = run(f"python {name} --help", Folder(tmp_path), HOWS["whole"])
    assert done.status == 0, done.said
    assert " ".join(words(shown.docstring(ROOT / name).splitlines()[0])) in " ".join(words(done.out))
    of_docstring = re.findall(r"--[a-z][a-z-]*", "\n".join(shown.usages(ROOT / name)))
    assert set(of_docstring) <= shown.options_of(ROOT / name)


def complaint(s: Shown, folder: Folder, how: str) -> str:
    """What is wrong with a command, if anything is."""
    if how == "network":
        return of_network(s.text)
    done = run(s.text, folder, HOWS[how])
    if done.status:
        return f"status {done.status}: {' '.join((done.said or done.out).split())[-400:]}"
    if s.output and words(s.output) != words(done.out):
        return f"it prints {done.out!r}, the document shows {s.output!r}"
    lacking = [x for x in promised(s.text) if not any(folder.path.glob(x))]
    return f"it leaves no {', '.join(lacking)}" if lacking else ""


def of_network(text: str) -> str:
    """An installation is not tried: what it asks for is looked up in the project's own files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = re.fullmatch(r"\S*pip install (\w+==\S+|'(\w+)\[(\w+)\]')", text)
    if asked is None:
        return "it is no installation"
    wanted, of, extra = asked.groups()
    if extra:
        return "" if of == project["name"] and extra in project["optional-dependencies"] else f"no extra {extra}"
    held = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return "" if wanted in held else f"constraints.txt does not say {wanted}"


def words(text: str) -> list[str]:
    """The words of what is printed, without numbers, lines and spaces."""
    return re.findall(r"[^\W\d_]+", text)


def promised(text: str) -> list[str]:
    """What the command's help says that its folder receives, and the files that it names."""
    tokens = shlex.split(text)
    files = [b for a, b in pairwise(tokens) if a in ("--json", ">") and not b.startswith("-")]
    if "--out" not in tokens or "sigmascope" not in tokens[:5]:
        return files
    out, name = tokens[tokens.index("--out") + 1], tokens[tokens.index("sigmascope") + 1]
    said = re.search(r"receives? (.*?)\.\s", f"{' '.join(shown.help_of(name).split())} ")
    if said is None:
        return [out, *files]
    some = re.sub(r",? and, with (--[\w-]+), (\S+)", lambda m: f", {m[2]}" if m[1] in tokens else "", said[1])
    return [f"{out}/{x}" for x in re.findall(r"[\w*-]+\.[a-z]+\b|\w+/", some)] + files
