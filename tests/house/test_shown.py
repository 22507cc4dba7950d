"""What is read of the documents, and that a fault in one of them does not pass."""

from __future__ import annotations

import pytest

import shown
from hows import HOWS
from reader import Folder
from shortened import How, run
from shown import Shown

PAGE = """
Say `sigmascope train`, or
`sigmascope study x.npz
--out y`, or `study --model`; ``make study``; `--law heldout`, `Foreign`, `a | b`.

| `python benchmarks/x.py a \\| b` | what |

```sh
make study   # a minute
sigmascope study x.npz --pairs \\
  --out "a # b"
cd x && sigmascope check | head -1

# only a word
```

```text
said
```

1. In a list:

   ```console
   $ sigmascope check
   green
   $ sigmascope prompts --prompt 'a
   > b'
   ```

```python
print(1)
```

```toml
draws = 8
```
"""


def test_a_page_is_read_as_a_reader_would():
    found = [(s.kind, s.text, s.output) for s in shown.of_page(PAGE)]
    assert found == [
        ("name", "sigmascope train", ""),
        ("command", "sigmascope study x.npz --out y", ""),
        ("option", "study --model", ""),
        ("command", "make study", ""),
        ("option", "--law heldout", ""),
        ("command", "python benchmarks/x.py a | b", ""),
        ("command", "make study", ""),
        ("command", 'sigmascope study x.npz --pairs --out "a # b"', ""),
        ("command", "cd x && sigmascope check | head -1", "said\n"),
        ("command", "sigmascope check", "green"),
        ("command", "sigmascope prompts --prompt 'a\nb'", ""),
        ("python", "print(1)\n", ""),
        ("toml", "draws = 8\n", ""),
    ]


def test_a_block_that_nothing_tries_is_refused():
    with pytest.raises(AssertionError, match="a block of haskell"):
        shown.of_page("```haskell\nmain\n```\n")
    with pytest.raises(AssertionError, match="a block of no language"):
        shown.of_page("```\nsigmascope check\n```\n")


def test_help_shows_its_examples_apart():
    assert [s.text for s in shown.of_help("What it is.\n\nTry it: sigmascope check --fast\n")] == [
        "sigmascope check --fast"
    ]
    with pytest.raises(AssertionError, match="a line of its own"):
        shown.of_help("It is measured by sigmascope study DATA --model X.\n")


@pytest.mark.parametrize(
    ("text", "how", "words"),
    [
        ("sigmascope translate --model diffusers:ddpm --stepp 20/50", "whole", "--stepp"),
        ("sigmascope translate --model diffusers:ddpm --step 20/50/3", "whole", "expected the step"),
        ("sigmascope study my-images.npz --attributes digitt --out x", "study", "digitt"),
        ("sigmascope study my-images.npz --attribute digit --out x", "study", "--attribute"),
        ("sigmascope study no-such.npz --out x", "study", "no-such.npz"),
        ("sigmascope check --fast --outt x", "checked", "--outt"),
        ("torchrun --nproc-per-node 2 -m sigmascope train scenes --stepps 2 --out x", "ranks", "--stepps"),
        ("torchrun --nproc-per-nod 2 -m sigmascope train scenes --out x --steps 2 --network nothing", "ranks", ""),
        ("python benchmarks/dense.py scenes shape --draw-s 96", "dense", "--draw-s"),
        ("python benchmarks/no-such.py", "whole", "No such file"),
        ("python examples/wonham.py", "paths", "figure"),
        ("make stud", "whole", "stud"),
        ("pytest tests/laws/no_such.py", "collected", "no_such.py"),
        ("cat no-such | head -1 && false", "whole", ""),
        ("sigmascope translate --model diffusers:ddpm --stepp 2 > x", "whole", "--stepp"),
    ],
)
def test_a_command_with_a_fault_fails(text, how, words, tmp_path):
    done = run(text, Folder(tmp_path), HOWS[how])
    assert done.status
    assert words in done.said + done.out


def test_the_shell_reads_what_is_the_shells(tmp_path):
    folder = Folder(tmp_path)
    assert run("printf 'a b' | tr a-z A-Z > x.txt && cat x.txt", folder, HOWS["whole"]).out == "A B"
    text = "sigmascope translate --model diffusers:ddpm --step 20/50 --json > x.json && grep -c timestep x.json"
    assert run(text, folder, HOWS["whole"]).out == "1\n"
    assert run('sigmascope translate --model "diffusers:ddpm" --sigma inf', folder, HOWS["whole"]).status == 2


def test_work_is_small_and_options_are_read():
    """A limit never makes more of what was asked for, and 0 stands for as many as are needed."""
    from shortened import smaller
    from sigmascope.commands.study import Command
    from sigmascope.studies.options import Sampling, flat

    small = smaller(flat(Command(sampling=Sampling(draws=8, levels=40))), {"draws": 16, "levels": 6, "steps": 4})
    assert small == {"draws": 8, "levels": 6, "steps": 4}
    assert smaller(flat(Command()), {"target_stderr": 2.0}) == {"target_stderr": 2.0}
    assert all(isinstance(how, How) and (how.why or how == How()) for how in HOWS.values())
    assert Shown("command", "x").output == ""
